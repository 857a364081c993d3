-- Of two readings of one series and microsecond, the lesser comes first: what is computed again gives the same.
WITH computed AS MATERIALIZED (
    SELECT d.series_id, c.*
      FROM pg_temp.dirty d
     CROSS JOIN LATERAL (
        SELECT date_bin('1 minute', r.recorded_at, 'epoch') AS bucket, sum(r.value) AS total, count(*) AS readings,
               min(r.value) AS minimum, max(r.value) AS maximum,
               (array_agg(r.value ORDER BY r.recorded_at, r.value))[1] AS first,
               (array_agg(r.value ORDER BY r.recorded_at DESC, r.value DESC))[1] AS last
          FROM iot_service.sensor_readings r
         WHERE r.series_id = d.series_id AND r.recorded_at >= d.from_at AND r.recorded_at < d.to_at
         GROUP BY 1) c
), gone AS (
    DELETE FROM iot_service.rollup_1m g
     USING (SELECT f.series_id, f.bucket
              FROM pg_temp.dirty d
             CROSS JOIN LATERAL (SELECT o.series_id, o.bucket FROM iot_service.rollup_1m o
                                  WHERE o.series_id = d.series_id AND o.bucket >= d.from_at AND o.bucket < d.to_at
                                 OFFSET 0) f
             WHERE NOT EXISTS (SELECT FROM computed c WHERE c.series_id = f.series_id AND c.bucket = f.bucket)) f
     WHERE g.series_id = f.series_id AND g.bucket = f.bucket
)
INSERT INTO iot_service.rollup_1m AS r
       (series_id, bucket, total, readings, minimum, maximum, first, last)
SELECT series_id, bucket, total, readings, minimum, maximum, first, last FROM computed ORDER BY series_id, bucket
ON CONFLICT (series_id, bucket) DO UPDATE
   SET total = excluded.total, readings = excluded.readings, minimum = excluded.minimum, maximum = excluded.maximum,
       first = excluded.first, last = excluded.last
 WHERE (r.total, r.readings, r.minimum, r.maximum, r.first, r.last)
       IS DISTINCT FROM (excluded.total, excluded.readings, excluded.minimum, excluded.maximum, excluded.first, excluded.last)
