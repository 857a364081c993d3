-- Of each device as long as it hung in the zone, and of [from_at, to_at) alone: whole hours as they are stored, the rest
-- put together from minutes.
WITH placed AS MATERIALIZED (
    SELECT p.device_id, v.device, p.position, GREATEST(p.valid_from, %(from_at)s) AS valid_from,
           LEAST(p.valid_to, %(to_at)s) AS valid_to
      FROM iot_service.device_locations p
      JOIN iot_service.iot_devices v USING (device_id)
     WHERE p.location_id = %(location_id)s AND p.valid_from < %(to_at)s AND p.valid_to > %(from_at)s
), member AS MATERIALIZED (
    SELECT p.device_id, p.device, p.position, s.series_id, s.quantity, s.channel, s.unit, p.valid_from, p.valid_to,
           date_bin('1 hour', p.valid_from + interval '59 minutes 59.999999 seconds', 'epoch') AS first_whole,
           date_bin('1 hour', p.valid_to, 'epoch') AS after_whole
      FROM placed p
      JOIN iot_service.series s USING (device_id)
     WHERE %(reading_type)s::text IS NULL OR s.quantity = %(reading_type)s
), part AS (
    SELECT m.device_id, m.device, m.position, m.quantity, m.channel, m.unit,
           h.bucket, h.total, h.readings, h.minimum, h.maximum
      FROM member m
     CROSS JOIN LATERAL (
        SELECT h.bucket, h.total, h.readings, h.minimum, h.maximum
          FROM iot_service.rollup_1h h
         WHERE h.series_id = m.series_id AND h.bucket >= m.first_whole AND h.bucket < m.after_whole
        OFFSET 0) h
    UNION ALL
    SELECT m.device_id, m.device, m.position, m.quantity, m.channel, m.unit,
           b.bucket, r.total, r.readings, r.minimum, r.maximum
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
     WHERE b.from_at < b.to_at
)
SELECT bucket, device_id, device, position, quantity, channel, sum(total) / sum(readings), min(minimum), max(maximum),
       sum(readings)::bigint, unit
  FROM part
 GROUP BY bucket, device_id, device, position, quantity, channel, unit
 ORDER BY bucket, device, position, quantity, channel, unit
