-- Before the horizon no bucket can be computed again: each that an erasure touches goes whole. A day of a site's calendar
-- is before it if it began there.
WITH spans AS (
    SELECT series_id, time_zone, from_at, to_at FROM iot_service.erased_series WHERE erasure_id = %(erasure_id)s
), minutes AS (
    DELETE FROM {minutes} r USING spans p
     WHERE r.series_id = p.series_id AND r.bucket > p.from_at - interval '1 minute' AND r.bucket < p.to_at
       AND r.bucket < (SELECT begins FROM iot_service.raw_horizon)
), hours AS (
    DELETE FROM {hours} r USING spans p
     WHERE r.series_id = p.series_id AND r.bucket > p.from_at - interval '1 hour' AND r.bucket < p.to_at
       AND r.bucket < (SELECT begins FROM iot_service.raw_horizon)
), days AS (
    DELETE FROM {days} r USING spans p
     WHERE r.series_id = p.series_id AND r.bucket > p.from_at - interval '1 day' AND r.bucket < p.to_at
       AND r.bucket < (SELECT begins FROM iot_service.raw_horizon)
)
DELETE FROM iot_service.rollup_site_day r USING spans p
 WHERE r.series_id = p.series_id AND r.reading_date >= (p.from_at AT TIME ZONE p.time_zone)::date
   AND r.reading_date <= ((p.to_at - interval '1 microsecond') AT TIME ZONE p.time_zone)::date
   AND r.reading_date::timestamp AT TIME ZONE p.time_zone < (SELECT begins FROM iot_service.raw_horizon)
