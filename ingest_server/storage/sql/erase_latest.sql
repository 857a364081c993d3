-- The latest reading of each series that is not erased takes the place of one that is. In series order, as writers do.
WITH spans AS (
    SELECT s.series_id, e.from_at, e.to_at
      FROM iot_service.erased_intervals e
      JOIN iot_service.iot_devices v ON v.site = e.site AND (e.device IS NULL OR v.device = e.device)
      JOIN iot_service.series s USING (device_id)
     WHERE e.erasure_id = %(erasure_id)s
), touched AS (
    SELECT l.series_id
      FROM iot_service.series_latest l
     WHERE EXISTS (SELECT FROM spans p WHERE p.series_id = l.series_id AND l.recorded_at >= p.from_at AND l.recorded_at < p.to_at)
     ORDER BY l.series_id FOR UPDATE
), gone AS (
    DELETE FROM iot_service.series_latest l USING touched t WHERE l.series_id = t.series_id
    RETURNING l.series_id
)
SELECT array_agg(series_id) FROM gone
