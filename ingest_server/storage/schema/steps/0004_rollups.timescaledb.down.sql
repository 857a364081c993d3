DROP MATERIALIZED VIEW iot_service.rollup_1d;
DROP MATERIALIZED VIEW iot_service.rollup_1h;
DROP MATERIALIZED VIEW iot_service.rollup_1m;

-- As they were in version 1.
CREATE FUNCTION iot_service.make_month(first timestamptz) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    begins timestamptz := date_trunc('month', first);
    ends timestamptz := begins + interval '1 month';
    month text := to_char(begins, '"sensor_readings_"YYYY_MM');
BEGIN
    -- Makers take turns: two workers meet the same new month in the same second.
    PERFORM pg_advisory_xact_lock(x'48454101'::int);
    IF EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass('iot_service.' || month)
                  AND inhparent = 'iot_service.sensor_readings'::regclass) THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE IF NOT EXISTS iot_service.%I'
                   ' (LIKE iot_service.sensor_readings INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', month);
    -- With this CHECK, ATTACH need not read the table to know that it fits.
    EXECUTE format('ALTER TABLE iot_service.%I ADD CONSTRAINT month CHECK (recorded_at >= %L AND recorded_at < %L)',
                   month, begins, ends);
    EXECUTE format('ALTER TABLE iot_service.sensor_readings ATTACH PARTITION iot_service.%I FOR VALUES FROM (%L) TO (%L)',
                   month, begins, ends);
    EXECUTE format('ALTER TABLE iot_service.%I DROP CONSTRAINT month', month);
END $$;
REVOKE ALL ON FUNCTION iot_service.make_month FROM PUBLIC;

ALTER TABLE iot_service.sensor_readings RENAME TO sensor_readings_before;
ALTER INDEX iot_service.sensor_readings_series_time RENAME TO sensor_readings_before_series_time;
CREATE TABLE iot_service.sensor_readings (LIKE iot_service.sensor_readings_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
    PARTITION BY RANGE (recorded_at);
CREATE INDEX sensor_readings_series_time ON iot_service.sensor_readings (series_id, recorded_at DESC);
SELECT iot_service.make_month(month)
  FROM (SELECT DISTINCT date_trunc('month', recorded_at, 'UTC') AS month FROM iot_service.sensor_readings_before) m;
INSERT INTO iot_service.sensor_readings SELECT * FROM iot_service.sensor_readings_before;
DROP TABLE iot_service.sensor_readings_before;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'iot_ingest') THEN
        GRANT EXECUTE ON FUNCTION iot_service.make_month TO iot_ingest;
    END IF;
END $$;
