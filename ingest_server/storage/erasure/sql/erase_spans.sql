-- What an erasure names of the readings, a month (UTC) at a time: overlapping rules of a series are merged, series of one
-- span taken together. No further than they have readings: a rule may be from the beginning on.
WITH named AS (
    SELECT array_agg(series_id) AS series_ids, span
      FROM (SELECT series_id, unnest(range_agg(tstzrange(from_at, to_at))) AS span
              FROM iot_service.erased_series
             WHERE erasure_id = %(erasure_id)s
             GROUP BY series_id) s
     GROUP BY span
), found AS (
    SELECT n.series_ids, min(r.first_at) AS first_at, max(r.last_at) AS last_at
      FROM named n
     CROSS JOIN unnest(n.series_ids) AS s (series_id)
     CROSS JOIN LATERAL (
        SELECT min(r.recorded_at) AS first_at, max(r.recorded_at) AS last_at
          FROM iot_service.sensor_readings r
         WHERE r.series_id = s.series_id AND r.recorded_at >= lower(n.span) AND r.recorded_at < upper(n.span)) r
     GROUP BY n.series_ids, n.span
)
SELECT series_ids, GREATEST(month, first_at), LEAST(month + interval '1 month', last_at + interval '1 microsecond')
  FROM found
 CROSS JOIN generate_series(date_trunc('month', first_at, 'UTC'), last_at, interval '1 month') AS month
 ORDER BY 2
