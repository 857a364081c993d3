-- How many months after this one have their partition, without a hole.
SELECT count(*)
  FROM generate_series(1, 120) AS ahead
 WHERE (SELECT bool_and(EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                                 WHERE i.inhparent = 'iot_service.sensor_readings'::regclass
                                   AND c.relname = to_char(date_trunc('month', now() AT TIME ZONE 'UTC')
                                                           + n * interval '1 month', '"sensor_readings_"YYYY_MM')))
          FROM generate_series(1, ahead) AS n)
