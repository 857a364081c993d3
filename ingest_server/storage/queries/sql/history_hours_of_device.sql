-- Whole hours as they are stored; the hour in which one device took over from another is put together from the minutes
-- of both. from_at and to_at are whole hours.
WITH member AS MATERIALIZED (
    SELECT s.series_id, s.quantity, s.channel, s.unit, l.valid_from, l.valid_to,
           date_bin('1 hour', l.valid_from + interval '59 minutes 59.999999 seconds', 'epoch') AS first_whole,
           date_bin('1 hour', l.valid_to, 'epoch') AS after_whole
      FROM iot_service.device_lineage l
      JOIN iot_service.series s ON s.device_id = l.member_id
     WHERE l.device_id = %(device_id)s AND l.valid_from < %(to_at)s AND l.valid_to > %(from_at)s
       AND (%(reading_type)s::text IS NULL OR s.quantity = %(reading_type)s)
), part AS (
    SELECT m.quantity, m.channel, m.unit, h.bucket, h.total, h.readings, h.minimum, h.maximum
      FROM member m
     CROSS JOIN LATERAL (
        SELECT h.bucket, h.total, h.readings, h.minimum, h.maximum
          FROM iot_service.rollup_1h h
         WHERE h.series_id = m.series_id AND h.bucket >= %(from_at)s AND h.bucket < %(to_at)s
           AND h.bucket >= m.first_whole AND h.bucket < m.after_whole
        OFFSET 0) h
    UNION ALL
    SELECT m.quantity, m.channel, m.unit, b.bucket, r.total, r.readings, r.minimum, r.maximum
      FROM member m
     CROSS JOIN LATERAL (VALUES
        (m.first_whole - interval '1 hour', m.valid_from, LEAST(m.first_whole, m.valid_to)),
        (m.after_whole, GREATEST(m.after_whole, m.first_whole, m.valid_from), m.valid_to)) AS b (bucket, from_at, to_at)
     CROSS JOIN LATERAL (
        SELECT r.total, r.readings, r.minimum, r.maximum
          FROM iot_service.rollup_1m r
         WHERE r.series_id = m.series_id AND r.bucket >= %(from_at)s AND r.bucket < %(to_at)s
           AND r.bucket >= b.from_at AND r.bucket < b.to_at
        OFFSET 0) r
     WHERE b.from_at < b.to_at AND b.bucket >= %(from_at)s AND b.bucket < %(to_at)s
)
SELECT bucket, quantity, channel, sum(total) / sum(readings), min(minimum), max(maximum), sum(readings)::bigint, unit
  FROM part
 GROUP BY bucket, quantity, channel, unit
 ORDER BY bucket, quantity, channel, unit
