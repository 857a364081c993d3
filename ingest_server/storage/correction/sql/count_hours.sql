-- How many readings of some series there are to be written anew, by hour.
SELECT date_bin('1 hour', recorded_at, 'epoch') AS hour, count(*)
  FROM iot_service.sensor_readings
 WHERE series_id = ANY(%(series_ids)s::int[])
   AND recorded_at >= %(from_at)s::timestamptz AND recorded_at < %(to_at)s::timestamptz
   AND revision <> ALL(%(current)s::smallint[])
 GROUP BY 1 ORDER BY 1
