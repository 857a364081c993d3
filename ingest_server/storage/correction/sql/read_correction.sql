-- A rule, or what a withdrawal withdraws. In Unix µs; null: without end.
SELECT c.device_id, v.site, v.device, r.number, r.kind, (extract(epoch FROM r.from_at) * 1000000)::bigint,
       CASE WHEN isfinite(r.to_at) THEN (extract(epoch FROM r.to_at) * 1000000)::bigint END,
       r.channel, r.unit, r.coefficients, r.was_profile, r.profile, r.channels, c.done_at IS NOT NULL
  FROM iot_service.corrections c
  JOIN iot_service.corrections r ON r.number = COALESCE(c.withdraws, c.number)
  JOIN iot_service.iot_devices v ON v.device_id = c.device_id
 WHERE c.number = %(number)s
