-- Takes the readings of some series in a span out of the table, but for those that follow the newest rules already; by
-- column, as arrays in binary: a million rows are no million objects. Without a join: to find the rows of one, TimescaleDB
-- would decompress every chunk.
WITH gone AS (
    DELETE FROM iot_service.sensor_readings
     WHERE series_id = ANY(%(series_ids)s::int[])
       AND recorded_at >= %(from_at)s::timestamptz AND recorded_at < %(to_at)s::timestamptz
       AND revision <> ALL(%(current)s::smallint[])
    RETURNING recorded_at, created_at, COALESCE(raw_value, value) AS arrived, series_id, causes, reliability, revision
)
SELECT array_send(array_agg(recorded_at)), array_send(array_agg(created_at)), array_send(array_agg(arrived)),
       array_send(array_agg(series_id)), array_send(array_agg(causes)), array_send(array_agg(reliability)),
       array_send(array_agg(revision))
  FROM gone
