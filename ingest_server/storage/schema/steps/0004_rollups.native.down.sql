-- What was archived stays where it is.
DO $$
BEGIN
    DROP SCHEMA IF EXISTS archive;
EXCEPTION WHEN dependent_objects_still_exist OR insufficient_privilege THEN NULL;
END $$;
DROP TABLE iot_service.rollup_1d, iot_service.rollup_1h, iot_service.rollup_1m;

-- As it was in version 1.
CREATE OR REPLACE FUNCTION iot_service.make_month(first timestamptz) RETURNS void LANGUAGE plpgsql
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

DROP INDEX iot_service.sensor_readings_series_time;
CREATE INDEX sensor_readings_series_time ON iot_service.sensor_readings (series_id, recorded_at DESC);
