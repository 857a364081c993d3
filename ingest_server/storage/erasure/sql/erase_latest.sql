-- The latest reading of each series that is not erased takes the place of one that is. In series order, as writers do.
WITH touched AS (
    SELECT l.series_id
      FROM iot_service.series_latest l
     WHERE EXISTS (SELECT FROM iot_service.erased_series e
                    WHERE e.erasure_id = %(erasure_id)s AND e.series_id = l.series_id
                      AND l.recorded_at >= e.from_at AND l.recorded_at < e.to_at)
     ORDER BY l.series_id FOR UPDATE
), gone AS (
    DELETE FROM iot_service.series_latest l USING touched t WHERE l.series_id = t.series_id
    RETURNING l.series_id
)
SELECT array_agg(series_id) FROM gone
