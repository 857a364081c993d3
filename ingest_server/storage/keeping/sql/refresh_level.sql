-- Whole buckets around what changed, out of the level below; merged, as two changes may lie in one bucket.
WITH spans AS MATERIALIZED (
    SELECT series_id, lower(span) AS from_at, upper(span) AS to_at
      FROM (SELECT series_id,
                   range_agg(tstzrange(date_bin('{width}', from_at, 'epoch'),
                                       date_bin('{width}', to_at - interval '1 microsecond', 'epoch') + interval '{width}')) AS spans
              FROM pg_temp.dirty GROUP BY series_id) m, unnest(m.spans) AS span
), computed AS MATERIALIZED (
    SELECT d.series_id, c.*
      FROM spans d
     CROSS JOIN LATERAL (
        SELECT date_bin('{width}', r.bucket, 'epoch') AS bucket, sum(r.total) AS total, sum(r.readings)::bigint AS readings,
               min(r.minimum) AS minimum, max(r.maximum) AS maximum,
               (array_agg(r.first ORDER BY r.bucket))[1] AS first, (array_agg(r.last ORDER BY r.bucket DESC))[1] AS last
          FROM iot_service.{below} r
         WHERE r.series_id = d.series_id AND r.bucket >= d.from_at AND r.bucket < d.to_at
         GROUP BY 1) c
), gone AS (
    DELETE FROM iot_service.{level} g
     USING (SELECT f.series_id, f.bucket
              FROM spans d
             CROSS JOIN LATERAL (SELECT o.series_id, o.bucket FROM iot_service.{level} o
                                  WHERE o.series_id = d.series_id AND o.bucket >= d.from_at AND o.bucket < d.to_at
                                 OFFSET 0) f
             WHERE NOT EXISTS (SELECT FROM computed c WHERE c.series_id = f.series_id AND c.bucket = f.bucket)) f
     WHERE g.series_id = f.series_id AND g.bucket = f.bucket
)
INSERT INTO iot_service.{level} AS r
       (series_id, bucket, total, readings, minimum, maximum, first, last)
SELECT series_id, bucket, total, readings, minimum, maximum, first, last FROM computed ORDER BY series_id, bucket
ON CONFLICT (series_id, bucket) DO UPDATE
   SET total = excluded.total, readings = excluded.readings, minimum = excluded.minimum, maximum = excluded.maximum,
       first = excluded.first, last = excluded.last
 WHERE (r.total, r.readings, r.minimum, r.maximum, r.first, r.last)
       IS DISTINCT FROM (excluded.total, excluded.readings, excluded.minimum, excluded.maximum, excluded.first, excluded.last)
