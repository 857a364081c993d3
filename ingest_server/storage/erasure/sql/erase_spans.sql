-- What an erasure names of the readings, by span of time: overlapping rules of a series are merged, series of one span
-- taken together. As text: an end may be infinite.
SELECT array_agg(series_id), lower(span)::text, upper(span)::text
  FROM (SELECT series_id, unnest(range_agg(tstzrange(from_at, to_at))) AS span
          FROM iot_service.erased_series
         WHERE erasure_id = %(erasure_id)s
         GROUP BY series_id) s
 GROUP BY span
 ORDER BY span
