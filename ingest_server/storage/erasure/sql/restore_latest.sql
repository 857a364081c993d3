-- The newest reading outside of all erasures: one look into the index for each span of time between them.
WITH erased AS (
    SELECT series_id, range_agg(tstzrange(from_at, to_at)) AS ranges
      FROM iot_service.erased_series
     WHERE series_id = ANY(%(series_ids)s::int[])
     GROUP BY series_id
)
INSERT INTO iot_service.series_latest (series_id, recorded_at, value, reliability, causes)
SELECT DISTINCT ON (w.series_id) w.series_id, r.recorded_at, r.value, r.reliability, r.causes
  FROM erased w
 CROSS JOIN LATERAL unnest(tstzmultirange(tstzrange(NULL, NULL)) - w.ranges) AS span
 CROSS JOIN LATERAL (
    SELECT o.recorded_at, o.value, o.reliability, o.causes FROM iot_service.sensor_readings o
     WHERE o.series_id = w.series_id AND o.recorded_at >= COALESCE(lower(span), '-infinity')
       AND o.recorded_at < COALESCE(upper(span), 'infinity')
     ORDER BY o.recorded_at DESC LIMIT 1) r
 ORDER BY w.series_id, r.recorded_at DESC
ON CONFLICT (series_id) DO NOTHING
