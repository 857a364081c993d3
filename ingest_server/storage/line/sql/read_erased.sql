-- In Unix µs; null where an end is open. Rules that overlap or touch are one.
SELECT site, device,
       CASE WHEN isfinite(lower(span)) THEN (extract(epoch FROM lower(span)) * 1000000)::bigint END,
       CASE WHEN isfinite(upper(span)) THEN (extract(epoch FROM upper(span)) * 1000000)::bigint END
  FROM (SELECT site, device, unnest(range_agg(tstzrange(from_at, to_at))) AS span
          FROM iot_service.erased_intervals
         GROUP BY site, device) s
