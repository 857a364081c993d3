-- Everything that the line from a batch to its receipt needs. Runs in one transaction.

CREATE SCHEMA IF NOT EXISTS iot_service;
COMMENT ON SCHEMA iot_service IS 'heal7-iot: sensor readings and the books that account for every one of them';

-- Which database this is: gateways pin it, so that a staging server frees nothing (WIRE.md §6).
CREATE TABLE iot_service.ledger_identity (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    ledger_id  uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO iot_service.ledger_identity DEFAULT VALUES;

CREATE TABLE iot_service.gateways (
    gateway_id        integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name              text NOT NULL UNIQUE CHECK (name LIKE '%_/_%'),
    state             text NOT NULL DEFAULT 'offline' CHECK (state IN ('online', 'offline')),
    instance          bigint,
    version           text,
    first_seen_at     timestamptz NOT NULL DEFAULT now(),
    last_heartbeat_at timestamptz,
    state_changed_at  timestamptz NOT NULL DEFAULT now(),
    clock_offset_us   bigint,
    spool_bytes       bigint,
    spool_bound_bytes bigint,
    spool_batches     bigint,
    spool_readings    bigint
) WITH (fillfactor = 50);
COMMENT ON COLUMN iot_service.gateways.name IS '<site>/<gateway>';
COMMENT ON COLUMN iot_service.gateways.clock_offset_us IS 'gateway''s clock minus server''s at the last heartbeat, transport included';

-- Who has spoken under a gateway's name: two boxes with one identity show here.
CREATE TABLE iot_service.gateway_instances (
    gateway_id            integer NOT NULL REFERENCES iot_service.gateways,
    instance              bigint NOT NULL,
    first_heard_at        timestamptz NOT NULL DEFAULT now(),
    last_heard_at         timestamptz NOT NULL DEFAULT now(),
    last_beat             bigint NOT NULL,
    beats_after_successor integer NOT NULL DEFAULT 0,
    held                  boolean NOT NULL DEFAULT false,
    PRIMARY KEY (gateway_id, instance)
);
COMMENT ON COLUMN iot_service.gateway_instances.held IS 'speaks while an older instance still does: its batches go to quarantine until an operator resolves it';

CREATE TABLE iot_service.iot_devices (
    device_id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site                text NOT NULL,
    device              text NOT NULL,
    home_gateway_id     integer NOT NULL REFERENCES iot_service.gateways,
    home_since          timestamptz NOT NULL DEFAULT now(),
    serial_number       text,
    device_type         text,
    location            text,
    position            text,
    manufacturer        text,
    model               text,
    firmware_version    text,
    status              text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'inactive', 'maintenance', 'error')),
    last_heartbeat_at   timestamptz,
    battery_level       double precision,
    signal_strength     double precision,
    sampling_interval_s double precision,
    alert_thresholds    jsonb,
    registered_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (site, device)
) WITH (fillfactor = 70);
COMMENT ON COLUMN iot_service.iot_devices.home_gateway_id IS 'one device, one home: claims of other gateways are refused while the home speaks';

CREATE TABLE iot_service.series (
    series_id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id     integer NOT NULL REFERENCES iot_service.iot_devices,
    channel       text NOT NULL,
    quantity      text NOT NULL,
    unit          text NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (device_id, channel, quantity, unit)
);

-- Which profile gave a series its meaning since when, for the firmware that the device ran then.
CREATE TABLE iot_service.series_profiles (
    series_id  integer NOT NULL REFERENCES iot_service.series,
    profile    text NOT NULL,
    firmware   text NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (series_id, profile, firmware)
);

-- No UNIQUE index: it would switch TimescaleDB's direct compress off. The ledger is what keeps rows single.
-- No default partition: it would forbid DETACH CONCURRENTLY and make ATTACH scan it.
CREATE TABLE iot_service.sensor_readings (
    recorded_at timestamptz NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    value       double precision NOT NULL,
    series_id   integer NOT NULL,
    causes      integer NOT NULL,
    reliability smallint NOT NULL,
    revision    smallint NOT NULL DEFAULT 0
) PARTITION BY RANGE (recorded_at);
CREATE INDEX sensor_readings_series_time ON iot_service.sensor_readings (series_id, recorded_at DESC);

-- Room for the readings of one month. By CREATE TABLE LIKE + ATTACH: CREATE … PARTITION OF would lock the parent
-- against every reader and writer. Runs as the owner: whoever writes readings makes room for them, but may not own them.
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

CREATE TABLE iot_service.latest_readings (
    series_id   integer PRIMARY KEY,
    recorded_at timestamptz NOT NULL,
    value       double precision NOT NULL,
    reliability smallint NOT NULL,
    causes      integer NOT NULL
) WITH (fillfactor = 50);

-- Which batches are in the database. Counters are in readings.
CREATE TABLE iot_service.ledger (
    gateway_id       integer NOT NULL REFERENCES iot_service.gateways,
    epoch            bigint NOT NULL CHECK (epoch > 0),
    settled          int8multirange NOT NULL DEFAULT '{}',
    presumed_lost    int8multirange NOT NULL DEFAULT '{}',
    held             int8multirange NOT NULL DEFAULT '{}',
    next_seq         bigint NOT NULL DEFAULT 0,
    heard_next       bigint NOT NULL DEFAULT 0,
    sealed           bigint NOT NULL DEFAULT 0,
    committed        bigint NOT NULL DEFAULT 0,
    quarantined      bigint NOT NULL DEFAULT 0,
    dropped          bigint NOT NULL DEFAULT 0,
    lost             bigint NOT NULL DEFAULT 0,
    duplicates       bigint NOT NULL DEFAULT 0,
    first_seen_at    timestamptz NOT NULL DEFAULT now(),
    last_batch_at    timestamptz,
    last_heartbeat_at timestamptz,
    missing_since    timestamptz,
    PRIMARY KEY (gateway_id, epoch)
) WITH (fillfactor = 50);
COMMENT ON COLUMN iot_service.ledger.held IS 'what the gateway said at its last heartbeat that it still holds';
COMMENT ON COLUMN iot_service.ledger.next_seq IS 'one more than the highest seq that anybody has spoken of';
COMMENT ON COLUMN iot_service.ledger.heard_next IS 'what the gateway said at its last heartbeat would be the next seq';
COMMENT ON COLUMN iot_service.ledger.lost IS 'readings in presumed_lost; goes down when they arrive after all';
COMMENT ON COLUMN iot_service.ledger.duplicates IS 'batches that came again and were left out';

CREATE TABLE iot_service.data_gaps (
    gap_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway_id  integer NOT NULL REFERENCES iot_service.gateways,
    epoch       bigint,
    seqs        int8multirange,
    reason      text NOT NULL,
    readings    bigint,
    from_at     timestamptz,
    to_at       timestamptz,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    corrected   bigint NOT NULL DEFAULT 0
);
COMMENT ON COLUMN iot_service.data_gaps.readings IS 'null: unknown, and never sealed';
COMMENT ON COLUMN iot_service.data_gaps.corrected IS 'readings of a presumed loss that arrived after all';
CREATE INDEX data_gaps_gateway_time ON iot_service.data_gaps (gateway_id, recorded_at DESC);
CREATE INDEX data_gaps_presumed ON iot_service.data_gaps (gateway_id, epoch) WHERE reason = 'presumed_lost';

CREATE TABLE iot_service.quarantine (
    quarantine_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at   timestamptz NOT NULL DEFAULT now(),
    gateway_id    integer NOT NULL REFERENCES iot_service.gateways,
    epoch         bigint NOT NULL,
    seq           bigint NOT NULL,
    reason        text NOT NULL,
    detail        text NOT NULL,
    readings      integer NOT NULL,
    indices       integer[],
    payload       bytea NOT NULL,
    replayed_at   timestamptz
);
COMMENT ON COLUMN iot_service.quarantine.indices IS 'which readings of the payload; null: the whole batch';
CREATE INDEX quarantine_waiting ON iot_service.quarantine (quarantine_id) WHERE replayed_at IS NULL;

-- The equation, per gateway: sealed = committed + quarantined + dropped + lost + in_flight.
-- `open_seqs` are neither settled nor presumed lost. `missing` are those of them that the gateway does not hold either:
-- while batches of an epoch still arrive, only up to where the gateway's last heartbeat spoke (what was sealed after it
-- may overtake what was sealed before); once they have ceased, all.
CREATE VIEW iot_service.books_by_epoch AS
SELECT g.name AS gateway, l.gateway_id, l.epoch, l.next_seq, l.sealed, l.committed, l.quarantined, l.dropped, l.lost,
       l.sealed - l.committed - l.quarantined - l.dropped - l.lost AS in_flight,
       l.duplicates, l.last_batch_at, l.last_heartbeat_at, o.open_seqs,
       o.open_seqs * int8multirange(int8range(0, CASE WHEN l.last_batch_at > l.last_heartbeat_at THEN l.heard_next
                                                      ELSE l.next_seq END)) - l.held AS missing
  FROM iot_service.ledger l
  JOIN iot_service.gateways g USING (gateway_id)
 CROSS JOIN LATERAL (SELECT int8multirange(int8range(0, l.next_seq)) - l.settled - l.presumed_lost AS open_seqs) o;

-- Balanced: nothing missing, nothing below zero, and what no seq is open for is not in flight either.
-- A gateway that lies may claim 2^53 readings in each of a thousand epochs: the books of the others must still be read.
CREATE VIEW iot_service.books AS
SELECT gateway, gateway_id, count(*) AS epochs, least(sum(sealed), 9223372036854775807)::bigint AS sealed,
       sum(committed)::bigint AS committed, sum(quarantined)::bigint AS quarantined, sum(dropped)::bigint AS dropped,
       least(sum(lost), 9223372036854775807)::bigint AS presumed_lost,
       least(sum(in_flight), 9223372036854775807)::bigint AS in_flight, sum(duplicates)::bigint AS duplicates,
       count(*) FILTER (WHERE NOT isempty(missing)) AS epochs_with_missing,
       bool_and(isempty(missing) AND in_flight >= 0 AND (in_flight = 0 OR NOT isempty(open_seqs))) AS balanced
  FROM iot_service.books_by_epoch
 GROUP BY gateway, gateway_id;

-- Roles: iot_ingest writes, iot_reader reads, iot_admin owns. Whoever migrates may lack CREATEROLE (a managed
-- platform makes roles its own way): then an administrator makes them, and grants what follows.
DO $$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['iot_ingest', 'iot_reader', 'iot_admin'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION
                WHEN insufficient_privilege THEN RAISE NOTICE 'role % is missing and may not be made by %', wanted, current_user;
                -- Roles belong to the whole server: another database's migration may have just made it.
                WHEN duplicate_object OR unique_violation THEN NULL;
            END;
        END IF;
    END LOOP;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'iot_ingest') THEN
        GRANT USAGE ON SCHEMA iot_service TO iot_ingest;
        GRANT EXECUTE ON FUNCTION iot_service.make_month TO iot_ingest;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA iot_service TO iot_ingest;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'iot_reader') THEN
        GRANT USAGE ON SCHEMA iot_service TO iot_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA iot_service TO iot_reader;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'iot_admin') THEN
        GRANT ALL ON SCHEMA iot_service TO iot_admin;
        GRANT ALL ON ALL TABLES IN SCHEMA iot_service TO iot_admin;
    END IF;
END $$;
