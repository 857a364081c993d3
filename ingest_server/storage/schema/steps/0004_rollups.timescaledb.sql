-- A hypertable, its columnstore, and continuous aggregates, each out of the one below. Ages and intervals are settings:
-- the server applies them (storage/timescaledb.py). search_path names the extension's schema.

ALTER TABLE iot_service.sensor_readings RENAME TO sensor_readings_before;
ALTER INDEX iot_service.sensor_readings_series_time RENAME TO sensor_readings_before_series_time;
CREATE TABLE iot_service.sensor_readings (LIKE iot_service.sensor_readings_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
SELECT create_hypertable('iot_service.sensor_readings', by_range('recorded_at', interval '1 day'),
                         create_default_indexes => false);
CREATE INDEX sensor_readings_series_time ON iot_service.sensor_readings (series_id, recorded_at DESC);
INSERT INTO iot_service.sensor_readings SELECT * FROM iot_service.sensor_readings_before;
DROP TABLE iot_service.sensor_readings_before;
-- Chunks make themselves.
DROP FUNCTION iot_service.make_month;

ALTER TABLE iot_service.sensor_readings SET (timescaledb.enable_columnstore = true,
    timescaledb.segmentby = 'series_id', timescaledb.orderby = 'recorded_at DESC');

-- Each holds what composes exactly: an hour's average is total / readings of its minutes, never an average of averages.
CREATE MATERIALIZED VIEW iot_service.rollup_1m
    WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT series_id, time_bucket('1 minute', recorded_at) AS bucket, sum(value) AS total, count(*) AS readings,
       min(value) AS minimum, max(value) AS maximum, first(value, recorded_at) AS first, last(value, recorded_at) AS last
  FROM iot_service.sensor_readings
 GROUP BY 1, 2 WITH NO DATA;

CREATE MATERIALIZED VIEW iot_service.rollup_1h
    WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT series_id, time_bucket('1 hour', m.bucket) AS bucket, sum(m.total) AS total, sum(m.readings)::bigint AS readings,
       min(m.minimum) AS minimum, max(m.maximum) AS maximum, first(m.first, m.bucket) AS first,
       last(m.last, m.bucket) AS last
  FROM iot_service.rollup_1m m
 GROUP BY 1, 2 WITH NO DATA;

CREATE MATERIALIZED VIEW iot_service.rollup_1d
    WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT series_id, time_bucket('1 day', h.bucket) AS bucket, sum(h.total) AS total, sum(h.readings)::bigint AS readings,
       min(h.minimum) AS minimum, max(h.maximum) AS maximum, first(h.first, h.bucket) AS first,
       last(h.last, h.bucket) AS last
  FROM iot_service.rollup_1h h
 GROUP BY 1, 2 WITH NO DATA;

-- What is there already gets its rollups from the first refresh on.
INSERT INTO iot_service.rollup_log (from_at, to_at, series_ids)
SELECT min(recorded_at), max(recorded_at) + interval '1 microsecond', array_agg(DISTINCT series_id)
  FROM iot_service.sensor_readings
 GROUP BY date_trunc('month', recorded_at, 'UTC');
