-- Whole days: the widest bucket. Merged, and nothing before the horizon, whose chunks are dropped.
SELECT GREATEST(lower(span), h.begins), upper(span)
  FROM iot_service.raw_horizon h,
       (SELECT range_agg(tstzrange(date_bin('1 day', from_at, 'epoch'),
                                   date_bin('1 day', to_at - interval '1 microsecond', 'epoch') + interval '1 day')) AS spans
          FROM iot_service.rollup_log WHERE entry_id = ANY(%(entries)s::bigint[])) w, unnest(w.spans) AS span
 WHERE upper(span) > h.begins
 ORDER BY 1
