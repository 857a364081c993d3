-- Whole days as they are stored; the day on which one device took over from another is put together from the minutes of
-- both. Days are those of the site's calendar.
WITH lineage AS MATERIALIZED (
    SELECT l.member_id, l.valid_from, l.valid_to, z.zone,
           (l.valid_from AT TIME ZONE z.zone + interval '1 day' - interval '1 microsecond')::date AS first_whole,
           (l.valid_to AT TIME ZONE z.zone)::date AS after_whole
      FROM iot_service.device_lineage l
      JOIN iot_service.iot_devices v USING (device_id)
      LEFT JOIN iot_service.sites t USING (site)
     CROSS JOIN LATERAL (SELECT COALESCE(t.time_zone, 'UTC') AS zone) z
     WHERE l.device_id = %(device_id)s
), member AS MATERIALIZED (
    SELECT s.series_id, s.quantity, s.channel, s.unit, l.valid_from, l.valid_to, l.first_whole, l.after_whole,
           l.first_whole::timestamp AT TIME ZONE l.zone AS first_whole_at,
           l.after_whole::timestamp AT TIME ZONE l.zone AS after_whole_at
      FROM lineage l
      JOIN iot_service.series s ON s.device_id = l.member_id
     WHERE l.first_whole - 1 <= %(to_date)s AND l.after_whole >= %(from_date)s
       AND (%(reading_type)s::text IS NULL OR s.quantity = %(reading_type)s)
), part AS (
    SELECT m.quantity, m.channel, m.unit, d.reading_date, d.total, d.readings, d.minimum, d.maximum
      FROM member m
     CROSS JOIN LATERAL (
        SELECT d.reading_date, d.total, d.readings, d.minimum, d.maximum
          FROM iot_service.rollup_site_day d
         WHERE d.series_id = m.series_id AND d.reading_date >= %(from_date)s AND d.reading_date <= %(to_date)s
           AND d.reading_date >= m.first_whole AND d.reading_date < m.after_whole
        OFFSET 0) d
    UNION ALL
    SELECT m.quantity, m.channel, m.unit, b.reading_date, r.total, r.readings, r.minimum, r.maximum
      FROM member m
     CROSS JOIN LATERAL (VALUES
        (m.first_whole - 1, m.valid_from, LEAST(m.first_whole_at, m.valid_to)),
        (m.after_whole, GREATEST(m.after_whole_at, m.first_whole_at, m.valid_from), m.valid_to)
        ) AS b (reading_date, from_at, to_at)
     CROSS JOIN LATERAL (
        SELECT r.total, r.readings, r.minimum, r.maximum
          FROM iot_service.rollup_1m r
         WHERE r.series_id = m.series_id AND r.bucket >= b.from_at AND r.bucket < b.to_at
        OFFSET 0) r
     WHERE b.from_at < b.to_at AND b.reading_date >= %(from_date)s AND b.reading_date <= %(to_date)s
)
SELECT reading_date, quantity, channel, sum(total) / sum(readings), min(minimum), max(maximum), sum(readings)::bigint, unit
  FROM part
 GROUP BY reading_date, quantity, channel, unit
 ORDER BY reading_date, quantity, channel, unit
