-- Blocks that hold what an erasure may name, with its intervals for their device, Unix µs.
SELECT f.block_id, f.content, array_agg(COALESCE((extract(epoch FROM NULLIF(e.from_at, '-infinity')) * 1000000)::bigint, -(1::bigint << 62))),
       array_agg(COALESCE((extract(epoch FROM NULLIF(e.to_at, 'infinity')) * 1000000)::bigint, 1::bigint << 62))
  FROM iot_service.erased_intervals e
  JOIN iot_service.iot_devices v ON v.site = e.site AND (e.device IS NULL OR v.device = e.device)
  JOIN iot_service.raw_frames f ON f.device_id = v.device_id AND f.last_at >= e.from_at AND f.first_at < e.to_at
 WHERE e.erasure_id = %(erasure_id)s
 GROUP BY f.block_id
