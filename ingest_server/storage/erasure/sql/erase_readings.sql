-- The readings of some series in one span, and what that changes of the rollups. Without a join: to find the rows of one,
-- TimescaleDB would decompress every chunk.
WITH gone AS (
    DELETE FROM iot_service.sensor_readings
     WHERE series_id = ANY(%(series_ids)s::int[])
       AND recorded_at >= %(from_at)s::timestamptz AND recorded_at < %(to_at)s::timestamptz
    RETURNING series_id, recorded_at
), told AS (
    INSERT INTO iot_service.rollup_log (from_at, to_at, series_ids)
    SELECT min(recorded_at), max(recorded_at) + interval '1 microsecond', ARRAY[series_id]
      FROM gone GROUP BY series_id, date_trunc('month', recorded_at, 'UTC')
)
SELECT count(*) FROM gone
