CREATE SCHEMA iot_service;
COMMENT ON SCHEMA iot_service IS 'heal7-iot: sensor readings and the books that account for every one of them';
CREATE FUNCTION iot_service.make_month(first timestamp with time zone) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
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
CREATE TABLE iot_service.gateways (
    gateway_id integer NOT NULL,
    name text NOT NULL,
    state text DEFAULT 'offline'::text NOT NULL,
    instance bigint,
    version text,
    first_seen_at timestamp with time zone DEFAULT now() NOT NULL,
    last_heartbeat_at timestamp with time zone,
    state_changed_at timestamp with time zone DEFAULT now() NOT NULL,
    clock_offset_us bigint,
    spool_bytes bigint,
    spool_bound_bytes bigint,
    spool_batches bigint,
    spool_readings bigint,
    CONSTRAINT gateways_name_check CHECK ((name ~~ '%_/_%'::text)),
    CONSTRAINT gateways_state_check CHECK ((state = ANY (ARRAY['online'::text, 'offline'::text])))
)
WITH (fillfactor='50');
COMMENT ON COLUMN iot_service.gateways.name IS '<site>/<gateway>';
COMMENT ON COLUMN iot_service.gateways.clock_offset_us IS 'gateway''s clock minus server''s at the last heartbeat, transport included';
CREATE TABLE iot_service.ledger (
    gateway_id integer NOT NULL,
    epoch bigint NOT NULL,
    settled int8multirange DEFAULT '{}'::int8multirange NOT NULL,
    presumed_lost int8multirange DEFAULT '{}'::int8multirange NOT NULL,
    held int8multirange DEFAULT '{}'::int8multirange NOT NULL,
    next_seq bigint DEFAULT 0 NOT NULL,
    heard_next bigint DEFAULT 0 NOT NULL,
    sealed bigint DEFAULT 0 NOT NULL,
    committed bigint DEFAULT 0 NOT NULL,
    quarantined bigint DEFAULT 0 NOT NULL,
    dropped bigint DEFAULT 0 NOT NULL,
    lost bigint DEFAULT 0 NOT NULL,
    duplicates bigint DEFAULT 0 NOT NULL,
    first_seen_at timestamp with time zone DEFAULT now() NOT NULL,
    last_batch_at timestamp with time zone,
    last_heartbeat_at timestamp with time zone,
    missing_since timestamp with time zone,
    replayed bigint DEFAULT 0 NOT NULL,
    unsettled boolean GENERATED ALWAYS AS ((NOT (int8multirange(int8range((0)::bigint, next_seq)) <@ (settled + presumed_lost)))) STORED NOT NULL,
    CONSTRAINT ledger_epoch_check CHECK ((epoch > 0))
)
WITH (fillfactor='50');
COMMENT ON COLUMN iot_service.ledger.held IS 'what the gateway said at its last heartbeat that it still holds';
COMMENT ON COLUMN iot_service.ledger.next_seq IS 'one more than the highest seq that anybody has spoken of';
COMMENT ON COLUMN iot_service.ledger.heard_next IS 'what the gateway said at its last heartbeat would be the next seq';
COMMENT ON COLUMN iot_service.ledger.lost IS 'readings in presumed_lost; goes down when they arrive after all';
COMMENT ON COLUMN iot_service.ledger.duplicates IS 'batches that came again and were left out';
COMMENT ON COLUMN iot_service.ledger.replayed IS 'readings, counted in committed, that came out of quarantine';
CREATE VIEW iot_service.books_by_epoch AS
 SELECT g.name AS gateway,
    l.gateway_id,
    l.epoch,
    l.next_seq,
    l.sealed,
    l.committed,
    l.quarantined,
    l.dropped,
    l.lost,
    ((((l.sealed - l.committed) - l.quarantined) - l.dropped) - l.lost) AS in_flight,
    l.duplicates,
    l.last_batch_at,
    l.last_heartbeat_at,
    o.open_seqs,
    ((o.open_seqs * int8multirange(int8range((0)::bigint,
        CASE
            WHEN (l.last_batch_at > l.last_heartbeat_at) THEN l.heard_next
            ELSE l.next_seq
        END))) - l.held) AS missing,
    l.replayed
   FROM ((iot_service.ledger l
     JOIN iot_service.gateways g USING (gateway_id))
     CROSS JOIN LATERAL ( SELECT ((int8multirange(int8range((0)::bigint, l.next_seq)) - l.settled) - l.presumed_lost) AS open_seqs) o);
CREATE TABLE iot_service.ledger_archive (
    gateway_id integer NOT NULL,
    epochs bigint NOT NULL,
    sealed bigint NOT NULL,
    committed bigint NOT NULL,
    quarantined bigint NOT NULL,
    dropped bigint NOT NULL,
    duplicates bigint NOT NULL,
    replayed bigint NOT NULL
);
CREATE VIEW iot_service.books AS
 SELECT gateway,
    gateway_id,
    (sum(epochs))::bigint AS epochs,
    (LEAST(sum(sealed), ('9223372036854775807'::bigint)::numeric))::bigint AS sealed,
    (sum(committed))::bigint AS committed,
    (sum(quarantined))::bigint AS quarantined,
    (sum(dropped))::bigint AS dropped,
    (LEAST(sum(lost), ('9223372036854775807'::bigint)::numeric))::bigint AS presumed_lost,
    (LEAST(sum(in_flight), ('9223372036854775807'::bigint)::numeric))::bigint AS in_flight,
    (sum(duplicates))::bigint AS duplicates,
    count(*) FILTER (WHERE missing) AS epochs_with_missing,
    bool_and(balanced) AS balanced,
    (sum(replayed))::bigint AS replayed
   FROM ( SELECT books_by_epoch.gateway,
            books_by_epoch.gateway_id,
            1 AS epochs,
            books_by_epoch.sealed,
            books_by_epoch.committed,
            books_by_epoch.quarantined,
            books_by_epoch.dropped,
            books_by_epoch.lost,
            books_by_epoch.in_flight,
            books_by_epoch.duplicates,
            (NOT isempty(books_by_epoch.missing)) AS missing,
            books_by_epoch.replayed,
            (isempty(books_by_epoch.missing) AND (books_by_epoch.in_flight >= 0) AND ((books_by_epoch.in_flight = 0) OR (NOT isempty(books_by_epoch.open_seqs)))) AS balanced
           FROM iot_service.books_by_epoch
        UNION ALL
         SELECT g.name,
            a.gateway_id,
            a.epochs,
            a.sealed,
            a.committed,
            a.quarantined,
            a.dropped,
            0,
            (((a.sealed - a.committed) - a.quarantined) - a.dropped),
            a.duplicates,
            false,
            a.replayed,
            (a.sealed = ((a.committed + a.quarantined) + a.dropped))
           FROM (iot_service.ledger_archive a
             JOIN iot_service.gateways g USING (gateway_id))) e
  GROUP BY gateway, gateway_id;
CREATE TABLE iot_service.data_gaps (
    gap_id bigint NOT NULL,
    gateway_id integer NOT NULL,
    epoch bigint,
    seqs int8multirange,
    reason text NOT NULL,
    readings bigint,
    from_at timestamp with time zone,
    to_at timestamp with time zone,
    recorded_at timestamp with time zone DEFAULT now() NOT NULL,
    corrected bigint DEFAULT 0 NOT NULL
);
COMMENT ON COLUMN iot_service.data_gaps.readings IS 'null: unknown, and never sealed';
COMMENT ON COLUMN iot_service.data_gaps.corrected IS 'readings of a presumed loss that arrived after all';
ALTER TABLE iot_service.data_gaps ALTER COLUMN gap_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot_service.data_gaps_gap_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE iot_service.gateway_instances (
    gateway_id integer NOT NULL,
    instance bigint NOT NULL,
    first_heard_at timestamp with time zone DEFAULT now() NOT NULL,
    last_heard_at timestamp with time zone DEFAULT now() NOT NULL,
    last_beat bigint NOT NULL,
    beats_after_successor integer DEFAULT 0 NOT NULL,
    held boolean DEFAULT false NOT NULL,
    least_delay_us bigint
);
COMMENT ON COLUMN iot_service.gateway_instances.held IS 'speaks while an older instance still does: its batches go to quarantine until an operator resolves it';
COMMENT ON COLUMN iot_service.gateway_instances.least_delay_us IS 'least time from the gateway''s clock at sending to ours at arrival: what a status has beyond it, it was under way';
ALTER TABLE iot_service.gateways ALTER COLUMN gateway_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot_service.gateways_gateway_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE iot_service.iot_devices (
    device_id integer NOT NULL,
    site text NOT NULL,
    device text NOT NULL,
    home_gateway_id integer NOT NULL,
    home_since timestamp with time zone DEFAULT now() NOT NULL,
    serial_number text,
    device_type text,
    location text,
    "position" text,
    manufacturer text,
    model text,
    firmware_version text,
    status text DEFAULT 'active'::text NOT NULL,
    last_heartbeat_at timestamp with time zone,
    battery_level double precision,
    signal_strength double precision,
    sampling_interval_s double precision,
    alert_thresholds jsonb,
    registered_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT iot_devices_status_check CHECK ((status = ANY (ARRAY['active'::text, 'inactive'::text, 'maintenance'::text, 'error'::text])))
)
WITH (fillfactor='70');
COMMENT ON COLUMN iot_service.iot_devices.home_gateway_id IS 'one device, one home: claims of other gateways are refused while the home speaks';
ALTER TABLE iot_service.iot_devices ALTER COLUMN device_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot_service.iot_devices_device_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE iot_service.latest_readings (
    series_id integer NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    value double precision NOT NULL,
    reliability smallint NOT NULL,
    causes integer NOT NULL
)
WITH (fillfactor='50');
CREATE TABLE iot_service.ledger_identity (
    only_row boolean DEFAULT true NOT NULL,
    ledger_id uuid DEFAULT gen_random_uuid() NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ledger_identity_only_row_check CHECK (only_row)
);
CREATE TABLE iot_service.quarantine (
    quarantine_id bigint NOT NULL,
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    gateway_id integer NOT NULL,
    epoch bigint NOT NULL,
    seq bigint NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    readings integer NOT NULL,
    indices integer[],
    payload bytea NOT NULL,
    replayed_at timestamp with time zone,
    instance bigint,
    released integer DEFAULT 0 NOT NULL
);
COMMENT ON COLUMN iot_service.quarantine.readings IS 'readings that wait';
COMMENT ON COLUMN iot_service.quarantine.indices IS 'which readings of the payload; null: the whole batch';
COMMENT ON COLUMN iot_service.quarantine.instance IS 'process that sent it; null: entered before this was kept';
COMMENT ON COLUMN iot_service.quarantine.released IS 'readings that a replay has committed';
ALTER TABLE iot_service.quarantine ALTER COLUMN quarantine_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot_service.quarantine_quarantine_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE iot_service.schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE iot_service.sensor_readings (
    recorded_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    value double precision NOT NULL,
    series_id integer NOT NULL,
    causes integer NOT NULL,
    reliability smallint NOT NULL,
    revision smallint DEFAULT 0 NOT NULL
)
PARTITION BY RANGE (recorded_at);
CREATE TABLE iot_service.series (
    series_id integer NOT NULL,
    device_id integer NOT NULL,
    channel text NOT NULL,
    quantity text NOT NULL,
    unit text NOT NULL,
    registered_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE iot_service.series_profiles (
    series_id integer NOT NULL,
    profile text NOT NULL,
    firmware text NOT NULL,
    first_seen_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE iot_service.series ALTER COLUMN series_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot_service.series_series_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
ALTER TABLE ONLY iot_service.data_gaps
    ADD CONSTRAINT data_gaps_pkey PRIMARY KEY (gap_id);
ALTER TABLE ONLY iot_service.gateway_instances
    ADD CONSTRAINT gateway_instances_pkey PRIMARY KEY (gateway_id, instance);
ALTER TABLE ONLY iot_service.gateways
    ADD CONSTRAINT gateways_name_key UNIQUE (name);
ALTER TABLE ONLY iot_service.gateways
    ADD CONSTRAINT gateways_pkey PRIMARY KEY (gateway_id);
ALTER TABLE ONLY iot_service.iot_devices
    ADD CONSTRAINT iot_devices_pkey PRIMARY KEY (device_id);
ALTER TABLE ONLY iot_service.iot_devices
    ADD CONSTRAINT iot_devices_site_device_key UNIQUE (site, device);
ALTER TABLE ONLY iot_service.latest_readings
    ADD CONSTRAINT latest_readings_pkey PRIMARY KEY (series_id);
ALTER TABLE ONLY iot_service.ledger_archive
    ADD CONSTRAINT ledger_archive_pkey PRIMARY KEY (gateway_id);
ALTER TABLE ONLY iot_service.ledger_identity
    ADD CONSTRAINT ledger_identity_pkey PRIMARY KEY (only_row);
ALTER TABLE ONLY iot_service.ledger
    ADD CONSTRAINT ledger_pkey PRIMARY KEY (gateway_id, epoch);
ALTER TABLE ONLY iot_service.quarantine
    ADD CONSTRAINT quarantine_pkey PRIMARY KEY (quarantine_id);
ALTER TABLE ONLY iot_service.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);
ALTER TABLE ONLY iot_service.series
    ADD CONSTRAINT series_device_id_channel_quantity_unit_key UNIQUE (device_id, channel, quantity, unit);
ALTER TABLE ONLY iot_service.series
    ADD CONSTRAINT series_pkey PRIMARY KEY (series_id);
ALTER TABLE ONLY iot_service.series_profiles
    ADD CONSTRAINT series_profiles_pkey PRIMARY KEY (series_id, profile, firmware);
CREATE INDEX data_gaps_gateway_time ON iot_service.data_gaps USING btree (gateway_id, recorded_at DESC);
CREATE INDEX data_gaps_presumed ON iot_service.data_gaps USING btree (gateway_id, epoch) WHERE (reason = 'presumed_lost'::text);
CREATE INDEX ledger_first_seen ON iot_service.ledger USING btree (gateway_id, first_seen_at);
CREATE INDEX ledger_unsettled ON iot_service.ledger USING btree (gateway_id, epoch) WHERE unsettled;
CREATE INDEX quarantine_of_gateway ON iot_service.quarantine USING btree (gateway_id, replayed_at);
CREATE INDEX quarantine_waiting ON iot_service.quarantine USING btree (quarantine_id) WHERE (replayed_at IS NULL);
CREATE INDEX sensor_readings_series_time ON ONLY iot_service.sensor_readings USING btree (series_id, recorded_at DESC);
ALTER TABLE ONLY iot_service.data_gaps
    ADD CONSTRAINT data_gaps_gateway_id_fkey FOREIGN KEY (gateway_id) REFERENCES iot_service.gateways(gateway_id);
ALTER TABLE ONLY iot_service.gateway_instances
    ADD CONSTRAINT gateway_instances_gateway_id_fkey FOREIGN KEY (gateway_id) REFERENCES iot_service.gateways(gateway_id);
ALTER TABLE ONLY iot_service.iot_devices
    ADD CONSTRAINT iot_devices_home_gateway_id_fkey FOREIGN KEY (home_gateway_id) REFERENCES iot_service.gateways(gateway_id);
ALTER TABLE ONLY iot_service.ledger_archive
    ADD CONSTRAINT ledger_archive_gateway_id_fkey FOREIGN KEY (gateway_id) REFERENCES iot_service.gateways(gateway_id);
ALTER TABLE ONLY iot_service.ledger
    ADD CONSTRAINT ledger_gateway_id_fkey FOREIGN KEY (gateway_id) REFERENCES iot_service.gateways(gateway_id);
ALTER TABLE ONLY iot_service.quarantine
    ADD CONSTRAINT quarantine_gateway_id_fkey FOREIGN KEY (gateway_id) REFERENCES iot_service.gateways(gateway_id);
ALTER TABLE ONLY iot_service.series
    ADD CONSTRAINT series_device_id_fkey FOREIGN KEY (device_id) REFERENCES iot_service.iot_devices(device_id);
ALTER TABLE ONLY iot_service.series_profiles
    ADD CONSTRAINT series_profiles_series_id_fkey FOREIGN KEY (series_id) REFERENCES iot_service.series(series_id);
GRANT USAGE ON SCHEMA iot_service TO iot_ingest;
GRANT USAGE ON SCHEMA iot_service TO iot_reader;
GRANT ALL ON SCHEMA iot_service TO iot_admin;
REVOKE ALL ON FUNCTION iot_service.make_month(first timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION iot_service.make_month(first timestamp with time zone) TO iot_ingest;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.gateways TO iot_ingest;
GRANT SELECT ON TABLE iot_service.gateways TO iot_reader;
GRANT ALL ON TABLE iot_service.gateways TO iot_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.ledger TO iot_ingest;
GRANT SELECT ON TABLE iot_service.ledger TO iot_reader;
GRANT ALL ON TABLE iot_service.ledger TO iot_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.books_by_epoch TO iot_ingest;
GRANT SELECT ON TABLE iot_service.books_by_epoch TO iot_reader;
GRANT ALL ON TABLE iot_service.books_by_epoch TO iot_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.ledger_archive TO iot_ingest;
GRANT SELECT ON TABLE iot_service.ledger_archive TO iot_reader;
GRANT ALL ON TABLE iot_service.ledger_archive TO iot_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.books TO iot_ingest;
GRANT SELECT ON TABLE iot_service.books TO iot_reader;
GRANT ALL ON TABLE iot_service.books TO iot_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.data_gaps TO iot_ingest;
GRANT SELECT ON TABLE iot_service.data_gaps TO iot_reader;
GRANT ALL ON TABLE iot_service.data_gaps TO iot_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.gateway_instances TO iot_ingest;
GRANT SELECT ON TABLE iot_service.gateway_instances TO iot_reader;
GRANT ALL ON TABLE iot_service.gateway_instances TO iot_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.iot_devices TO iot_ingest;
GRANT SELECT ON TABLE iot_service.iot_devices TO iot_reader;
GRANT ALL ON TABLE iot_service.iot_devices TO iot_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.latest_readings TO iot_ingest;
GRANT SELECT ON TABLE iot_service.latest_readings TO iot_reader;
GRANT ALL ON TABLE iot_service.latest_readings TO iot_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.ledger_identity TO iot_ingest;
GRANT SELECT ON TABLE iot_service.ledger_identity TO iot_reader;
GRANT ALL ON TABLE iot_service.ledger_identity TO iot_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.quarantine TO iot_ingest;
GRANT SELECT ON TABLE iot_service.quarantine TO iot_reader;
GRANT ALL ON TABLE iot_service.quarantine TO iot_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.schema_migrations TO iot_ingest;
GRANT SELECT ON TABLE iot_service.schema_migrations TO iot_reader;
GRANT ALL ON TABLE iot_service.schema_migrations TO iot_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.sensor_readings TO iot_ingest;
GRANT SELECT ON TABLE iot_service.sensor_readings TO iot_reader;
GRANT ALL ON TABLE iot_service.sensor_readings TO iot_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.series TO iot_ingest;
GRANT SELECT ON TABLE iot_service.series TO iot_reader;
GRANT ALL ON TABLE iot_service.series TO iot_admin;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.series_profiles TO iot_ingest;
GRANT SELECT ON TABLE iot_service.series_profiles TO iot_reader;
GRANT ALL ON TABLE iot_service.series_profiles TO iot_admin;
