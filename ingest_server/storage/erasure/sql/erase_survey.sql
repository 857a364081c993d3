-- What a scope names in one table of readings, by device; overlapping intervals count once. A look for each span: else all
-- months would be read for an hour.
WITH spans AS (
    SELECT v.device, s.series_id, range_agg(tstzrange(e.from_at, e.to_at)) AS ranges
      FROM ({scope}) e
      JOIN iot_service.iot_devices v ON v.site = e.site AND (e.device IS NULL OR v.device = e.device)
      JOIN iot_service.series s USING (device_id)
     GROUP BY v.device, s.series_id
)
SELECT p.device, sum(r.readings)::bigint, min(r.first_at), max(r.last_at)
  FROM (SELECT device, series_id, lower(span) AS from_at, upper(span) AS to_at FROM spans, unnest(ranges) AS span) p
 CROSS JOIN LATERAL (
    SELECT count(*) AS readings, min(r.recorded_at) AS first_at, max(r.recorded_at) AS last_at
      FROM {readings} r
     WHERE r.series_id = p.series_id AND r.recorded_at >= p.from_at AND r.recorded_at < p.to_at) r
 GROUP BY p.device
