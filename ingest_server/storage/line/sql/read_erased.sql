-- In Unix µs; null where an end is open.
SELECT site, device,
       CASE WHEN isfinite(from_at) THEN (extract(epoch FROM from_at) * 1000000)::bigint END,
       CASE WHEN isfinite(to_at) THEN (extract(epoch FROM to_at) * 1000000)::bigint END
  FROM iot_service.erased_intervals
