-- Days of the site's calendar that changed: of whole hours, and, where the zone's midnight is none of UTC's hours, of
-- the minutes at its two ends. Days that began before the horizon stay as they are.
WITH days AS MATERIALIZED (
    SELECT DISTINCT d.series_id, v.site, day::date AS reading_date, v.zone
      FROM pg_temp.dirty d
     CROSS JOIN LATERAL (SELECT v.site, COALESCE(t.time_zone, 'UTC') AS zone
                           FROM iot_service.series s
                           JOIN iot_service.iot_devices v USING (device_id)
                           LEFT JOIN iot_service.sites t USING (site)
                          WHERE s.series_id = d.series_id
                         OFFSET 0) v
     CROSS JOIN LATERAL generate_series((d.from_at AT TIME ZONE v.zone)::date::timestamp,
                                        (d.to_at - interval '1 microsecond') AT TIME ZONE v.zone, '1 day') AS day
), bounds AS MATERIALIZED (
    SELECT series_id, site, reading_date, from_at, to_at,
           date_bin('1 hour', from_at + interval '59 minutes 59.999999 seconds', 'epoch') AS first_hour,
           date_bin('1 hour', to_at, 'epoch') AS after_hours
      FROM (SELECT series_id, site, reading_date, reading_date::timestamp AT TIME ZONE zone AS from_at,
                   (reading_date + 1)::timestamp AT TIME ZONE zone AS to_at FROM days) b
     WHERE from_at >= (SELECT begins FROM iot_service.raw_horizon)
), computed AS MATERIALIZED (
    SELECT b.series_id, b.reading_date, c.*
      FROM bounds b
     CROSS JOIN LATERAL (
        SELECT sum(p.total) AS total, sum(p.readings)::bigint AS readings, min(p.minimum) AS minimum,
               max(p.maximum) AS maximum, (array_agg(p.first ORDER BY p.bucket))[1] AS first,
               (array_agg(p.last ORDER BY p.bucket DESC))[1] AS last
          FROM (SELECT h.bucket, h.total, h.readings, h.minimum, h.maximum, h.first, h.last
                  FROM iot_service.rollup_1h h
                 WHERE h.series_id = b.series_id AND h.bucket >= b.first_hour AND h.bucket < b.after_hours
                UNION ALL
                SELECT m.bucket, m.total, m.readings, m.minimum, m.maximum, m.first, m.last
                  FROM iot_service.rollup_1m m
                 WHERE m.series_id = b.series_id AND m.bucket >= b.from_at AND m.bucket < b.first_hour
                UNION ALL
                SELECT m.bucket, m.total, m.readings, m.minimum, m.maximum, m.first, m.last
                  FROM iot_service.rollup_1m m
                 WHERE m.series_id = b.series_id AND m.bucket >= b.after_hours AND m.bucket < b.to_at) p
        HAVING count(*) > 0) c
), gone AS (
    DELETE FROM iot_service.rollup_site_day g
     USING (SELECT f.series_id, f.reading_date
              FROM bounds b
             CROSS JOIN LATERAL (SELECT o.series_id, o.reading_date FROM iot_service.rollup_site_day o
                                  WHERE o.series_id = b.series_id AND o.reading_date = b.reading_date
                                 OFFSET 0) f
             WHERE NOT EXISTS (SELECT FROM computed c WHERE c.series_id = f.series_id AND c.reading_date = f.reading_date)) f
     WHERE g.series_id = f.series_id AND g.reading_date = f.reading_date
), told AS (
    INSERT INTO iot_service.changed_days (site, visit_date)
    SELECT DISTINCT site, reading_date FROM bounds ORDER BY site, reading_date
    -- A mark that is there is locked: else a derivation could take it before what it is set for is committed.
    ON CONFLICT (site, visit_date) DO UPDATE SET site = excluded.site
)
INSERT INTO iot_service.rollup_site_day AS r
       (series_id, reading_date, total, readings, minimum, maximum, first, last)
SELECT series_id, reading_date, total, readings, minimum, maximum, first, last
  FROM computed ORDER BY series_id, reading_date
ON CONFLICT (series_id, reading_date) DO UPDATE
   SET total = excluded.total, readings = excluded.readings, minimum = excluded.minimum, maximum = excluded.maximum,
       first = excluded.first, last = excluded.last
 WHERE (r.total, r.readings, r.minimum, r.maximum, r.first, r.last)
       IS DISTINCT FROM (excluded.total, excluded.readings, excluded.minimum, excluded.maximum, excluded.first, excluded.last)
