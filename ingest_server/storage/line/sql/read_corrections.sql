-- In Unix µs; null where the end is open.
SELECT c.device_id, c.number, c.kind, (extract(epoch FROM c.from_at) * 1000000)::bigint,
       CASE WHEN isfinite(c.to_at) THEN (extract(epoch FROM c.to_at) * 1000000)::bigint END,
       c.channel, c.unit, c.coefficients, c.was_profile, c.profile, c.channels
  FROM iot_service.corrections c
 WHERE c.kind <> 'withdrawal' AND NOT EXISTS (SELECT FROM iot_service.corrections w WHERE w.withdraws = c.number)
 ORDER BY c.number
