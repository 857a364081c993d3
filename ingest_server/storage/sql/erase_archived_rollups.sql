-- Before the horizon no bucket can be computed again: each that an erasure touches goes whole.
WITH spans AS (
    SELECT s.series_id, z.zone, e.from_at, LEAST(e.to_at, h.begins) AS to_at
      FROM iot_service.raw_horizon h
      JOIN iot_service.erased_intervals e ON e.from_at < h.begins
      JOIN iot_service.iot_devices v ON v.site = e.site AND (e.device IS NULL OR v.device = e.device)
      JOIN iot_service.series s USING (device_id)
      LEFT JOIN iot_service.sites t ON t.site = v.site
     CROSS JOIN LATERAL (SELECT COALESCE(t.time_zone, 'UTC') AS zone) z
     WHERE e.erasure_id = %(erasure_id)s
), hours AS (
    DELETE FROM iot_service.rollup_1h r USING spans p
     WHERE r.series_id = p.series_id AND r.bucket > p.from_at - interval '1 hour' AND r.bucket < p.to_at
), days AS (
    DELETE FROM iot_service.rollup_1d r USING spans p
     WHERE r.series_id = p.series_id AND r.bucket > p.from_at - interval '1 day' AND r.bucket < p.to_at
)
DELETE FROM iot_service.rollup_site_day r USING spans p
 WHERE r.series_id = p.series_id AND r.reading_date >= (p.from_at AT TIME ZONE p.zone)::date
   AND r.reading_date <= ((p.to_at - interval '1 microsecond') AT TIME ZONE p.zone)::date
