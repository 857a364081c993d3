-- The rows of an erasure, and what that changes of the rollups.
WITH spans AS (
    SELECT s.series_id, range_agg(tstzrange(e.from_at, e.to_at)) AS ranges
      FROM iot_service.erased_intervals e
      JOIN iot_service.iot_devices v ON v.site = e.site AND (e.device IS NULL OR v.device = e.device)
      JOIN iot_service.series s USING (device_id)
     WHERE e.erasure_id = %(erasure_id)s
     GROUP BY s.series_id
), gone AS (
    DELETE FROM iot_service.sensor_readings r
     USING (SELECT p.series_id, lower(span) AS from_at, upper(span) AS to_at FROM spans p, unnest(p.ranges) AS span) p
     WHERE r.series_id = p.series_id AND r.recorded_at >= p.from_at AND r.recorded_at < p.to_at
    RETURNING r.series_id, r.recorded_at
), told AS (
    INSERT INTO iot_service.rollup_log (from_at, to_at, series_ids)
    SELECT min(recorded_at), max(recorded_at) + interval '1 microsecond', ARRAY[series_id] FROM gone GROUP BY series_id
)
SELECT count(*) FROM gone
