-- In series order (two workers must not wait for each other in a circle), and only where newer.
INSERT INTO iot_service.series_latest AS l (series_id, recorded_at, value, reliability, causes)
SELECT series_id, timestamptz 'epoch' + recorded_us * interval '1 microsecond', value, reliability, causes
  FROM unnest(%(series_ids)s::int[], %(times_us)s::bigint[], %(values)s::float8[], %(reliability)s::int[], %(causes)s::int[])
       AS r (series_id, recorded_us, value, reliability, causes)
 ORDER BY series_id
ON CONFLICT (series_id) DO UPDATE
   SET recorded_at = excluded.recorded_at, value = excluded.value,
       reliability = excluded.reliability, causes = excluded.causes
 WHERE excluded.recorded_at > l.recorded_at
