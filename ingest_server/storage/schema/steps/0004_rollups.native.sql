-- PostgreSQL's own partitions, one a month; rollups in tables that a job refreshes out of rollup_log.

-- In the order in which readings come: PostgreSQL then splits a full page where the newest one stands and leaves the page
-- full behind it. In the other order (0001) half of each page stayed empty for ever: 55 bytes a reading, not 33. Who wants
-- the newest first reads the index backwards.
DROP INDEX iot_service.sensor_readings_series_time;
CREATE INDEX sensor_readings_series_time ON iot_service.sensor_readings (series_id, recorded_at);

-- Each holds what composes exactly: an hour's average is total / readings of its minutes, never an average of averages.
CREATE TABLE iot_service.rollup_1m (
    series_id integer NOT NULL,
    bucket    timestamptz NOT NULL,
    total     double precision NOT NULL,
    readings  bigint NOT NULL,
    minimum   double precision NOT NULL,
    maximum   double precision NOT NULL,
    first     double precision NOT NULL,
    last      double precision NOT NULL,
    PRIMARY KEY (series_id, bucket)
) PARTITION BY RANGE (bucket);
-- Room for an hour's and a day's row to be written anew within its page, while it grows.
CREATE TABLE iot_service.rollup_1h (LIKE iot_service.rollup_1m INCLUDING ALL) WITH (fillfactor = 70);
CREATE TABLE iot_service.rollup_1d (LIKE iot_service.rollup_1m INCLUDING ALL) WITH (fillfactor = 70);
-- make_month works as the owner of the readings.
DO $$
DECLARE owner regrole := (SELECT relowner FROM pg_class WHERE oid = 'iot_service.sensor_readings'::regclass);
BEGIN
    EXECUTE format('ALTER TABLE iot_service.rollup_1m OWNER TO %s', owner);
END $$;

-- Room for the readings of one month, and for its minutes. By CREATE TABLE LIKE + ATTACH: CREATE … PARTITION OF would
-- lock the parent against every reader and writer. Runs as the owner: whoever writes readings makes room for them, but
-- may not own them.
CREATE OR REPLACE FUNCTION iot_service.make_month(first timestamptz) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    begins timestamptz := date_trunc('month', first);
    ends timestamptz := begins + interval '1 month';
    parent record;
    month text;
BEGIN
    -- Makers take turns: two workers meet the same new month in the same second.
    PERFORM pg_advisory_xact_lock(x'48454101'::int);
    FOR parent IN SELECT * FROM (VALUES ('rollup_1m', 'bucket', 'WITH (fillfactor = 80)'),
                                        ('sensor_readings', 'recorded_at', '')) AS p (name, key, options) LOOP
        month := to_char(begins, format('"%s_"YYYY_MM', parent.name));
        CONTINUE WHEN EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass('iot_service.' || month)
                                 AND inhparent = to_regclass('iot_service.' || parent.name));
        EXECUTE format('CREATE TABLE IF NOT EXISTS iot_service.%I'
                       ' (LIKE iot_service.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS) %s',
                       month, parent.name, parent.options);
        -- With this CHECK, ATTACH need not read the table to know that it fits.
        EXECUTE format('ALTER TABLE iot_service.%I ADD CONSTRAINT month CHECK (%I >= %L AND %I < %L)',
                       month, parent.key, begins, parent.key, ends);
        EXECUTE format('ALTER TABLE iot_service.%I ATTACH PARTITION iot_service.%I FOR VALUES FROM (%L) TO (%L)',
                       parent.name, month, begins, ends);
        EXECUTE format('ALTER TABLE iot_service.%I DROP CONSTRAINT month', month);
    END LOOP;
END $$;

-- Where months go that are past their time. Somebody else's schema of that name may serve, if it lets us in.
CREATE SCHEMA IF NOT EXISTS archive;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'iot_admin') THEN
        GRANT USAGE, CREATE ON SCHEMA archive TO iot_admin;
    END IF;
END $$;

-- What is there already gets its rollups from the first refresh on.
DO $$
DECLARE
    month record;
    begins timestamptz;
BEGIN
    FOR month IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                  WHERE i.inhparent = 'iot_service.sensor_readings'::regclass ORDER BY c.relname LOOP
        begins := to_timestamp(right(month.relname, 7) || '+00', 'YYYY_MMTZH');
        PERFORM iot_service.make_month(begins);
        EXECUTE format('INSERT INTO iot_service.rollup_log (from_at, to_at, series_ids)'
                       ' SELECT min(recorded_at), max(recorded_at) + interval ''1 microsecond'', ARRAY[series_id]'
                       '   FROM iot_service.%I GROUP BY series_id', month.relname);
    END LOOP;
END $$;
