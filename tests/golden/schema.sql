CREATE SCHEMA iot_service;
COMMENT ON SCHEMA iot_service IS 'heal7-iot: sensor readings and the books that account for every one of them';
CREATE TABLE iot_service.profile_channels (
    profile text NOT NULL,
    channel text NOT NULL,
    accuracy text,
    minimum double precision,
    maximum double precision,
    quantity text,
    unit text,
    scale double precision,
    "offset" double precision,
    source text
);
COMMENT ON COLUMN iot_service.profile_channels.source IS 'where the number comes from: the kind of driver, and the register where it has one';
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
CREATE FUNCTION iot_service.accuracy(series integer, written_at timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    BEGIN ATOMIC
 SELECT c.accuracy
    FROM ((iot_service.series s
      JOIN iot_service.series_profiles p USING (series_id))
      JOIN iot_service.profile_channels c ON (((c.profile = p.profile) AND (c.channel = s.channel))))
   WHERE (s.series_id = accuracy.series)
   ORDER BY (p.first_seen_at <= accuracy.written_at) DESC, p.first_seen_at DESC
  LIMIT 1;
END;
CREATE TABLE iot_service.device_placements (
    device_id integer NOT NULL,
    valid_from timestamp with time zone NOT NULL,
    location_id integer,
    "position" text
);
COMMENT ON COLUMN iot_service.device_placements.location_id IS 'null: taken away';
CREATE TABLE iot_service.zones (
    location_id integer NOT NULL,
    site text NOT NULL,
    zone text NOT NULL
);
CREATE VIEW iot_service.device_locations AS
 SELECT p.device_id,
    p.location_id,
    z.site,
    z.zone,
    p."position",
    p.valid_from,
    COALESCE(( SELECT min(n.valid_from) AS min
           FROM iot_service.device_placements n
          WHERE ((n.device_id = p.device_id) AND (n.valid_from > p.valid_from))), 'infinity'::timestamp with time zone) AS valid_to
   FROM (iot_service.device_placements p
     JOIN iot_service.zones z USING (location_id));
CREATE FUNCTION iot_service.devices_in_room(device integer, at timestamp with time zone) RETURNS SETOF integer
    LANGUAGE sql STABLE ROWS 10 PARALLEL SAFE
    BEGIN ATOMIC
 SELECT devices_in_room.device AS device
 UNION
  SELECT other.device_id
    FROM (iot_service.device_locations mine
      JOIN iot_service.device_locations other USING (location_id))
   WHERE ((mine.device_id = devices_in_room.device) AND (mine.valid_from <= devices_in_room.at) AND (devices_in_room.at < mine.valid_to) AND (other.valid_from <= devices_in_room.at) AND (devices_in_room.at < other.valid_to));
END;
CREATE FUNCTION iot_service.is_of_device(quantity text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (quantity = ANY (ARRAY['battery'::text, 'battery_low'::text, 'voltage'::text, 'rssi'::text, 'signal_strength'::text]));
CREATE FUNCTION iot_service.is_presence(quantity text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (quantity = ANY (ARRAY['presence'::text, 'occupancy'::text, 'motion'::text, 'moving'::text]));
CREATE TABLE iot_service.sensor_readings (
    recorded_at timestamp with time zone NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    value double precision NOT NULL,
    series_id integer NOT NULL,
    causes integer NOT NULL,
    reliability smallint NOT NULL,
    revision smallint DEFAULT 0 NOT NULL,
    raw_value double precision
)
PARTITION BY RANGE (recorded_at);
COMMENT ON COLUMN iot_service.sensor_readings.revision IS 'which rules it follows (correction_revisions); 0: it arrived before its device had any';
COMMENT ON COLUMN iot_service.sensor_readings.raw_value IS 'the value that arrived; null: it is `value`';
CREATE FUNCTION iot_service.ambient_conditions(device integer, quantity text, at timestamp with time zone) RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE
    BEGIN ATOMIC
 SELECT jsonb_object_agg(n.quantity, jsonb_build_object('value', n.value, 'unit', n.unit) ORDER BY n.quantity) AS jsonb_object_agg
    FROM ( SELECT DISTINCT ON (s.quantity) s.quantity,
             s.unit,
             l.value
            FROM ((iot_service.devices_in_room(ambient_conditions.device, ambient_conditions.at) d(device_id)
              JOIN iot_service.series s USING (device_id))
              CROSS JOIN LATERAL ( SELECT r.value,
                     r.recorded_at
                    FROM iot_service.sensor_readings r
                   WHERE ((r.series_id = s.series_id) AND (r.recorded_at <= ambient_conditions.at) AND (r.recorded_at > (ambient_conditions.at - '00:15:00'::interval)))
                   ORDER BY r.recorded_at DESC
                  LIMIT 1) l)
           WHERE ((s.quantity <> ambient_conditions.quantity) AND (NOT iot_service.is_presence(s.quantity)) AND (NOT iot_service.is_of_device(s.quantity)))
           ORDER BY s.quantity, l.recorded_at DESC, s.series_id) n;
END;
CREATE FUNCTION iot_service.cause_names(causes integer) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    BEGIN ATOMIC
 SELECT COALESCE(array_agg(COALESCE(c.name, ('bit_'::text || ((1)::bigint << n.n))) ORDER BY n.n), '{}'::text[]) AS "coalesce"
    FROM (generate_series(0, 31) n(n)
      LEFT JOIN ( VALUES (0,'out_of_range'::text), (1,'clock_uncertain'::text), (2,'clock_estimated'::text), (3,'low_battery'::text), (4,'warming_up'::text), (5,'fast_change'::text), (6,'stuck'::text), (7,'sensor_error'::text), (8,'weak_signal'::text)) c("bit", name) ON ((c."bit" = n.n)))
   WHERE (((cause_names.causes >> n.n) & 1) = 1);
END;
CREATE FUNCTION iot_service.grant_roles() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
DECLARE readable text;
BEGIN
    -- Not a month's own table: it is asked for through its parent.
    SELECT string_agg(format('iot_service.%I', relname), ', ') INTO readable
      FROM pg_class
     WHERE relnamespace = 'iot_service'::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition
       AND relname !~ '_[0-9]{4}_[0-9]{2}$';
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'iot_ingest') THEN
        -- Here, too: an administrator may have made the role long after the first step.
        GRANT USAGE ON SCHEMA iot_service TO iot_ingest;
        REVOKE ALL ON ALL TABLES IN SCHEMA iot_service FROM iot_ingest;
        EXECUTE format('GRANT SELECT ON %s TO iot_ingest', readable);
        GRANT INSERT ON iot_service.sensor_readings, iot_service.series, iot_service.series_profiles,
            iot_service.correction_revisions TO iot_ingest;
        GRANT INSERT, UPDATE ON iot_service.gateways, iot_service.iot_devices, iot_service.series_latest,
            iot_service.ledger_archive, iot_service.data_gaps TO iot_ingest;
        GRANT INSERT, UPDATE, DELETE ON iot_service.gateway_instances, iot_service.ledger, iot_service.quarantine,
            iot_service.profile_channels, iot_service.rollup_log, iot_service.rollup_site_day, iot_service.changed_days,
            iot_service.user_behavior_patterns, iot_service.job_runs TO iot_ingest;
        GRANT INSERT, DELETE ON iot_service.raw_frames TO iot_ingest;
        GRANT UPDATE (refused) ON iot_service.erasures TO iot_ingest;
        -- Of the native flavour alone.
        IF to_regproc('iot_service.make_month') IS NOT NULL THEN
            GRANT EXECUTE ON FUNCTION iot_service.make_month TO iot_ingest;
            GRANT INSERT, UPDATE, DELETE ON iot_service.rollup_1m, iot_service.rollup_1h, iot_service.rollup_1d TO iot_ingest;
        END IF;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'iot_reader') THEN
        GRANT USAGE ON SCHEMA iot_service TO iot_reader;
        REVOKE ALL ON ALL TABLES IN SCHEMA iot_service FROM iot_reader;
        EXECUTE format('GRANT SELECT ON %s TO iot_reader', readable);
        -- Bytes as devices and gateways sent them may hold anything; who asked to be forgotten is nobody's business.
        REVOKE ALL ON iot_service.quarantine, iot_service.raw_frames, iot_service.erasures, iot_service.erased_intervals,
            iot_service.erased_series FROM iot_reader;
        GRANT SELECT (quarantine_id, received_at, gateway_id, epoch, seq, reason, detail, readings, released, replayed_at)
            ON iot_service.quarantine TO iot_reader;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'iot_admin') THEN
        GRANT ALL ON SCHEMA iot_service TO iot_admin;
        EXECUTE format('GRANT ALL ON %s TO iot_admin', readable);
        GRANT ALL ON ALL SEQUENCES IN SCHEMA iot_service TO iot_admin;
        GRANT ALL ON ALL FUNCTIONS IN SCHEMA iot_service TO iot_admin;
        IF to_regnamespace('archive') IS NOT NULL
           AND has_schema_privilege('archive', 'CREATE WITH GRANT OPTION') THEN
            GRANT USAGE, CREATE ON SCHEMA archive TO iot_admin;
        END IF;
    END IF;
END $_$;
CREATE FUNCTION iot_service.make_month(first timestamp with time zone) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
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
CREATE FUNCTION iot_service.user_presence(device integer, at timestamp with time zone) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    BEGIN ATOMIC
 SELECT bool_or((l.value <> (0)::double precision)) AS bool_or
    FROM ((iot_service.devices_in_room(user_presence.device, user_presence.at) d(device_id)
      JOIN iot_service.series s USING (device_id))
      CROSS JOIN LATERAL ( SELECT r.value
            FROM iot_service.sensor_readings r
           WHERE ((r.series_id = s.series_id) AND (r.recorded_at <= user_presence.at) AND (r.recorded_at > (user_presence.at - '00:15:00'::interval)))
           ORDER BY r.recorded_at DESC
          LIMIT 1) l)
   WHERE iot_service.is_presence(s.quantity);
END;
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
CREATE TABLE iot_service.changed_days (
    site text NOT NULL,
    visit_date date NOT NULL
);
CREATE TABLE iot_service.correction_revisions (
    device_id integer NOT NULL,
    revision smallint NOT NULL,
    number bigint NOT NULL,
    profile text NOT NULL,
    CONSTRAINT correction_revisions_revision_check CHECK ((revision > 0))
);
CREATE TABLE iot_service.corrections (
    number bigint NOT NULL,
    device_id integer NOT NULL,
    kind text NOT NULL,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    channel text,
    unit text,
    coefficients double precision[],
    was_profile text,
    profile text,
    channels jsonb,
    withdraws bigint,
    made_at timestamp with time zone DEFAULT now() NOT NULL,
    made_by text NOT NULL,
    reason text NOT NULL,
    readings bigint DEFAULT 0 NOT NULL,
    done_at timestamp with time zone,
    CONSTRAINT corrections_check CHECK ((from_at < to_at)),
    CONSTRAINT corrections_check1 CHECK (
CASE kind
    WHEN 'calibration'::text THEN (num_nulls(channel, unit, coefficients) = 0)
    WHEN 'decoder'::text THEN (num_nulls(was_profile, profile, channels) = 0)
    WHEN 'withdrawal'::text THEN (withdraws IS NOT NULL)
    ELSE false
END)
);
COMMENT ON COLUMN iot_service.corrections.coefficients IS 'of a polynomial in the value as decoded, the constant first';
COMMENT ON COLUMN iot_service.corrections.channels IS 'by channel: unit, and scale and offset of both profiles';
COMMENT ON COLUMN iot_service.corrections.readings IS 'rows that were written anew';
COMMENT ON COLUMN iot_service.corrections.done_at IS 'null: in force, and stored readings do not all follow it yet';
ALTER TABLE iot_service.corrections ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot_service.corrections_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
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
CREATE TABLE iot_service.device_successions (
    device_id integer NOT NULL,
    predecessor_id integer NOT NULL,
    replaced_at timestamp with time zone NOT NULL,
    CONSTRAINT device_successions_check CHECK ((device_id <> predecessor_id))
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
CREATE VIEW iot_service.device_lineage AS
 SELECT d.device_id,
    l.member_id,
    l.valid_from,
    l.valid_to
   FROM (iot_service.iot_devices d
     CROSS JOIN LATERAL ( WITH RECURSIVE line(member_id, valid_from, valid_to) AS (
                 SELECT d.device_id,
                    COALESCE(( SELECT s.replaced_at
                           FROM iot_service.device_successions s
                          WHERE (s.device_id = d.device_id)), '-infinity'::timestamp with time zone) AS "coalesce",
                    'infinity'::timestamp with time zone AS timestamptz
                UNION ALL
                 SELECT s.predecessor_id,
                    COALESCE(before.replaced_at, '-infinity'::timestamp with time zone) AS "coalesce",
                    s.replaced_at
                   FROM ((line line_1
                     JOIN iot_service.device_successions s ON ((s.device_id = line_1.member_id)))
                     LEFT JOIN iot_service.device_successions before ON ((before.device_id = s.predecessor_id)))
                  WHERE (COALESCE(before.replaced_at, '-infinity'::timestamp with time zone) < s.replaced_at)
                )
         SELECT line.member_id,
            line.valid_from,
            line.valid_to
           FROM line) l);
CREATE VIEW iot_service.device_history AS
 SELECT l.device_id,
    l.member_id,
    s.quantity AS reading_type,
    r.value,
    s.unit,
    ((r.reliability)::double precision / (100.0)::double precision) AS reliability_score,
    r.recorded_at,
    s.channel,
    r.series_id,
    r.causes,
    r.raw_value,
    r.revision
   FROM ((iot_service.device_lineage l
     JOIN iot_service.series s ON ((s.device_id = l.member_id)))
     JOIN iot_service.sensor_readings r ON (((r.series_id = s.series_id) AND (r.recorded_at >= l.valid_from) AND (r.recorded_at < l.valid_to))));
CREATE TABLE iot_service.erased_intervals (
    erasure_id uuid NOT NULL,
    site text NOT NULL,
    device text,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone NOT NULL,
    CONSTRAINT erased_intervals_check CHECK ((from_at < to_at))
);
COMMENT ON COLUMN iot_service.erased_intervals.device IS 'null: every device of the site';
CREATE TABLE iot_service.sites (
    site text NOT NULL,
    time_zone text NOT NULL,
    CONSTRAINT sites_time_zone_check CHECK ((('1970-01-01 00:00:00+00'::timestamp with time zone AT TIME ZONE time_zone) IS NOT NULL))
);
COMMENT ON TABLE iot_service.sites IS 'whose days are not those of UTC';
CREATE VIEW iot_service.erased_series AS
 SELECT e.erasure_id,
    v.site,
    COALESCE(t.time_zone, 'UTC'::text) AS time_zone,
    v.device_id,
    s.series_id,
    e.from_at,
    e.to_at
   FROM (((iot_service.erased_intervals e
     JOIN iot_service.iot_devices v ON (((v.site = e.site) AND ((e.device IS NULL) OR (v.device = e.device)))))
     JOIN iot_service.series s USING (device_id))
     LEFT JOIN iot_service.sites t ON ((t.site = v.site)));
CREATE TABLE iot_service.erasures (
    erasure_id uuid DEFAULT gen_random_uuid() NOT NULL,
    number bigint NOT NULL,
    requested_at timestamp with time zone DEFAULT now() NOT NULL,
    requested_by text NOT NULL,
    reason text NOT NULL,
    scope text NOT NULL,
    readings bigint DEFAULT 0 NOT NULL,
    refused bigint DEFAULT 0 NOT NULL,
    done_at timestamp with time zone
);
COMMENT ON COLUMN iot_service.erasures.readings IS 'rows that were removed';
COMMENT ON COLUMN iot_service.erasures.refused IS 'readings that were dropped: in quarantine, or as they arrived';
ALTER TABLE iot_service.erasures ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot_service.erasures_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE iot_service.rollup_site_day (
    series_id integer NOT NULL,
    reading_date date NOT NULL,
    total double precision NOT NULL,
    readings bigint NOT NULL,
    minimum double precision NOT NULL,
    maximum double precision NOT NULL,
    first double precision NOT NULL,
    last double precision NOT NULL
)
WITH (fillfactor='70');
CREATE VIEW iot_service.fact_sensor_daily AS
 SELECT s.device_id,
    d.reading_date,
    s.quantity AS reading_type,
    (d.total / (d.readings)::double precision) AS avg_value,
    d.minimum AS min_value,
    d.maximum AS max_value,
    d.readings AS reading_count,
    s.channel,
    s.unit,
    d.series_id
   FROM (iot_service.rollup_site_day d
     JOIN iot_service.series s USING (series_id));
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
CREATE TABLE iot_service.rollup_1h (
    series_id integer CONSTRAINT rollup_1m_series_id_not_null NOT NULL,
    bucket timestamp with time zone CONSTRAINT rollup_1m_bucket_not_null NOT NULL,
    total double precision CONSTRAINT rollup_1m_total_not_null NOT NULL,
    readings bigint CONSTRAINT rollup_1m_readings_not_null NOT NULL,
    minimum double precision CONSTRAINT rollup_1m_minimum_not_null NOT NULL,
    maximum double precision CONSTRAINT rollup_1m_maximum_not_null NOT NULL,
    first double precision CONSTRAINT rollup_1m_first_not_null NOT NULL,
    last double precision CONSTRAINT rollup_1m_last_not_null NOT NULL
)
WITH (fillfactor='70');
CREATE VIEW iot_service.hourly_sensor_averages AS
 SELECT s.device_id,
    s.quantity AS reading_type,
    h.bucket AS hour,
    (h.total / (h.readings)::double precision) AS avg_value,
    h.minimum AS min_value,
    h.maximum AS max_value,
    h.readings AS reading_count,
    s.channel,
    s.unit,
    h.series_id
   FROM (iot_service.rollup_1h h
     JOIN iot_service.series s USING (series_id));
ALTER TABLE iot_service.iot_devices ALTER COLUMN device_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot_service.iot_devices_device_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE iot_service.job_runs (
    run_id bigint NOT NULL,
    job text NOT NULL,
    server text NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone,
    ok boolean,
    detail text
);
COMMENT ON COLUMN iot_service.job_runs.ok IS 'null: under way, or its server died';
ALTER TABLE iot_service.job_runs ALTER COLUMN run_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot_service.job_runs_run_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE iot_service.series_latest (
    series_id integer CONSTRAINT latest_readings_series_id_not_null NOT NULL,
    recorded_at timestamp with time zone CONSTRAINT latest_readings_recorded_at_not_null NOT NULL,
    value double precision CONSTRAINT latest_readings_value_not_null NOT NULL,
    reliability smallint CONSTRAINT latest_readings_reliability_not_null NOT NULL,
    causes integer CONSTRAINT latest_readings_causes_not_null NOT NULL
)
WITH (fillfactor='50');
CREATE VIEW iot_service.latest_readings AS
 SELECT s.device_id,
    s.quantity AS reading_type,
    l.value,
    s.unit,
    ((l.reliability)::double precision / (100.0)::double precision) AS reliability_score,
    l.recorded_at,
    s.channel,
    l.series_id,
    l.causes
   FROM (iot_service.series_latest l
     JOIN iot_service.series s USING (series_id));
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
CREATE TABLE iot_service.raw_frames (
    block_id bigint NOT NULL,
    device_id integer NOT NULL,
    profile text NOT NULL,
    firmware text NOT NULL,
    first_at timestamp with time zone NOT NULL,
    last_at timestamp with time zone NOT NULL,
    frames integer NOT NULL,
    content bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);
ALTER TABLE iot_service.raw_frames ALTER COLUMN block_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot_service.raw_frames_block_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE iot_service.raw_horizon (
    only_row boolean DEFAULT true NOT NULL,
    begins timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    CONSTRAINT raw_horizon_only_row_check CHECK (only_row)
);
CREATE VIEW iot_service.reading_corrections AS
 SELECT s.device_id,
    r.series_id,
    r.recorded_at,
    r.value,
    r.raw_value,
    r.revision,
    v.profile AS decoded_by,
    ( SELECT max(c.number) AS max
           FROM iot_service.corrections c
          WHERE ((c.device_id = s.device_id) AND (c.kind = 'decoder'::text) AND (c.was_profile = v.profile) AND (c.number <= v.number) AND (c.from_at <= r.recorded_at) AND (r.recorded_at < c.to_at) AND (c.channels ? s.channel) AND (NOT (EXISTS ( SELECT
                   FROM iot_service.corrections w
                  WHERE ((w.withdraws = c.number) AND (w.number <= v.number))))))) AS decoder,
    ( SELECT c.number
           FROM iot_service.corrections c
          WHERE ((c.device_id = s.device_id) AND (c.kind = 'calibration'::text) AND (c.channel = s.channel) AND (c.unit = s.unit) AND (c.number <= v.number) AND (c.from_at <= r.recorded_at) AND (NOT (EXISTS ( SELECT
                   FROM iot_service.corrections w
                  WHERE ((w.withdraws = c.number) AND (w.number <= v.number))))))
          ORDER BY c.from_at DESC, c.number DESC
         LIMIT 1) AS calibration
   FROM ((iot_service.sensor_readings r
     JOIN iot_service.series s USING (series_id))
     JOIN iot_service.correction_revisions v ON (((v.device_id = s.device_id) AND (v.revision = r.revision))));
CREATE VIEW iot_service.readings AS
 SELECT s.device_id,
    s.quantity AS reading_type,
    r.value,
    s.unit,
    iot_service.accuracy(r.series_id, r.created_at) AS accuracy,
    ((r.reliability)::double precision / (100.0)::double precision) AS reliability_score,
    iot_service.ambient_conditions(s.device_id, s.quantity, r.recorded_at) AS ambient_conditions,
    iot_service.user_presence(s.device_id, r.recorded_at) AS user_presence,
    r.recorded_at,
    r.created_at,
    s.channel,
    r.series_id,
    r.causes,
    r.revision,
    r.raw_value
   FROM (iot_service.sensor_readings r
     JOIN iot_service.series s USING (series_id));
COMMENT ON VIEW iot_service.readings IS 'select the columns that you need: accuracy, ambient_conditions and user_presence look elsewhere for each row';
CREATE TABLE iot_service.rollup_1d (
    series_id integer CONSTRAINT rollup_1m_series_id_not_null NOT NULL,
    bucket timestamp with time zone CONSTRAINT rollup_1m_bucket_not_null NOT NULL,
    total double precision CONSTRAINT rollup_1m_total_not_null NOT NULL,
    readings bigint CONSTRAINT rollup_1m_readings_not_null NOT NULL,
    minimum double precision CONSTRAINT rollup_1m_minimum_not_null NOT NULL,
    maximum double precision CONSTRAINT rollup_1m_maximum_not_null NOT NULL,
    first double precision CONSTRAINT rollup_1m_first_not_null NOT NULL,
    last double precision CONSTRAINT rollup_1m_last_not_null NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE iot_service.rollup_1m (
    series_id integer NOT NULL,
    bucket timestamp with time zone NOT NULL,
    total double precision NOT NULL,
    readings bigint NOT NULL,
    minimum double precision NOT NULL,
    maximum double precision NOT NULL,
    first double precision NOT NULL,
    last double precision NOT NULL
)
PARTITION BY RANGE (bucket);
CREATE TABLE iot_service.rollup_log (
    entry_id bigint NOT NULL,
    from_at timestamp with time zone NOT NULL,
    to_at timestamp with time zone NOT NULL,
    series_ids integer[] NOT NULL,
    CONSTRAINT rollup_log_check CHECK ((from_at < to_at))
);
ALTER TABLE iot_service.rollup_log ALTER COLUMN entry_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot_service.rollup_log_entry_id_seq
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
    applied_at timestamp with time zone DEFAULT now() NOT NULL,
    flavour text
);
CREATE TABLE iot_service.schema_objects (
    kind text NOT NULL,
    name text NOT NULL,
    definition text NOT NULL
);
ALTER TABLE iot_service.series ALTER COLUMN series_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot_service.series_series_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE iot_service.user_behavior_patterns (
    pattern_id bigint NOT NULL,
    user_id uuid,
    location_id integer NOT NULL,
    visit_date date NOT NULL,
    time_slot text NOT NULL,
    dwell_time_minutes integer NOT NULL,
    interaction_points integer NOT NULL,
    movement_pattern text NOT NULL,
    preference_indicators jsonb NOT NULL,
    comfort_level smallint,
    environmental_preferences jsonb NOT NULL,
    computed_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT user_behavior_patterns_comfort_level_check CHECK (((comfort_level >= 1) AND (comfort_level <= 5))),
    CONSTRAINT user_behavior_patterns_dwell_time_minutes_check CHECK ((dwell_time_minutes >= 0)),
    CONSTRAINT user_behavior_patterns_interaction_points_check CHECK ((interaction_points >= 0)),
    CONSTRAINT user_behavior_patterns_movement_pattern_check CHECK ((movement_pattern = ANY (ARRAY['none'::text, 'passing'::text, 'moving'::text, 'staying'::text]))),
    CONSTRAINT user_behavior_patterns_time_slot_check CHECK ((time_slot = ANY (ARRAY['morning'::text, 'afternoon'::text, 'evening'::text])))
);
ALTER TABLE iot_service.user_behavior_patterns ALTER COLUMN pattern_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot_service.user_behavior_patterns_pattern_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE VIEW iot_service.zone_history AS
 SELECT p.location_id,
    p.site,
    p.zone,
    p."position",
    s.device_id,
    s.quantity AS reading_type,
    r.value,
    s.unit,
    ((r.reliability)::double precision / (100.0)::double precision) AS reliability_score,
    r.recorded_at,
    s.channel,
    r.series_id,
    r.causes,
    r.raw_value,
    r.revision
   FROM ((iot_service.device_locations p
     JOIN iot_service.series s USING (device_id))
     JOIN iot_service.sensor_readings r ON (((r.series_id = s.series_id) AND (r.recorded_at >= p.valid_from) AND (r.recorded_at < p.valid_to))));
ALTER TABLE iot_service.zones ALTER COLUMN location_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME iot_service.zones_location_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
ALTER TABLE ONLY iot_service.changed_days
    ADD CONSTRAINT changed_days_pkey PRIMARY KEY (site, visit_date);
ALTER TABLE ONLY iot_service.correction_revisions
    ADD CONSTRAINT correction_revisions_device_id_number_profile_key UNIQUE (device_id, number, profile);
ALTER TABLE ONLY iot_service.correction_revisions
    ADD CONSTRAINT correction_revisions_pkey PRIMARY KEY (device_id, revision);
ALTER TABLE ONLY iot_service.corrections
    ADD CONSTRAINT corrections_pkey PRIMARY KEY (number);
ALTER TABLE ONLY iot_service.corrections
    ADD CONSTRAINT corrections_withdraws_key UNIQUE (withdraws);
ALTER TABLE ONLY iot_service.data_gaps
    ADD CONSTRAINT data_gaps_pkey PRIMARY KEY (gap_id);
ALTER TABLE ONLY iot_service.device_placements
    ADD CONSTRAINT device_placements_pkey PRIMARY KEY (device_id, valid_from);
ALTER TABLE ONLY iot_service.device_successions
    ADD CONSTRAINT device_successions_pkey PRIMARY KEY (device_id);
ALTER TABLE ONLY iot_service.device_successions
    ADD CONSTRAINT device_successions_predecessor_id_key UNIQUE (predecessor_id);
ALTER TABLE ONLY iot_service.erasures
    ADD CONSTRAINT erasures_number_key UNIQUE (number);
ALTER TABLE ONLY iot_service.erasures
    ADD CONSTRAINT erasures_pkey PRIMARY KEY (erasure_id);
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
ALTER TABLE ONLY iot_service.job_runs
    ADD CONSTRAINT job_runs_pkey PRIMARY KEY (run_id);
ALTER TABLE ONLY iot_service.ledger_archive
    ADD CONSTRAINT ledger_archive_pkey PRIMARY KEY (gateway_id);
ALTER TABLE ONLY iot_service.ledger_identity
    ADD CONSTRAINT ledger_identity_pkey PRIMARY KEY (only_row);
ALTER TABLE ONLY iot_service.ledger
    ADD CONSTRAINT ledger_pkey PRIMARY KEY (gateway_id, epoch);
ALTER TABLE ONLY iot_service.profile_channels
    ADD CONSTRAINT profile_channels_pkey PRIMARY KEY (profile, channel);
ALTER TABLE ONLY iot_service.quarantine
    ADD CONSTRAINT quarantine_pkey PRIMARY KEY (quarantine_id);
ALTER TABLE ONLY iot_service.raw_frames
    ADD CONSTRAINT raw_frames_pkey PRIMARY KEY (block_id);
ALTER TABLE ONLY iot_service.raw_horizon
    ADD CONSTRAINT raw_horizon_pkey PRIMARY KEY (only_row);
ALTER TABLE ONLY iot_service.rollup_1d
    ADD CONSTRAINT rollup_1d_pkey PRIMARY KEY (series_id, bucket);
ALTER TABLE ONLY iot_service.rollup_1h
    ADD CONSTRAINT rollup_1h_pkey PRIMARY KEY (series_id, bucket);
ALTER TABLE ONLY iot_service.rollup_1m
    ADD CONSTRAINT rollup_1m_pkey PRIMARY KEY (series_id, bucket);
ALTER TABLE ONLY iot_service.rollup_log
    ADD CONSTRAINT rollup_log_pkey PRIMARY KEY (entry_id);
ALTER TABLE ONLY iot_service.rollup_site_day
    ADD CONSTRAINT rollup_site_day_pkey PRIMARY KEY (series_id, reading_date);
ALTER TABLE ONLY iot_service.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);
ALTER TABLE ONLY iot_service.schema_objects
    ADD CONSTRAINT schema_objects_pkey PRIMARY KEY (kind, name);
ALTER TABLE ONLY iot_service.series
    ADD CONSTRAINT series_device_id_channel_quantity_unit_key UNIQUE (device_id, channel, quantity, unit);
ALTER TABLE ONLY iot_service.series_latest
    ADD CONSTRAINT series_latest_pkey PRIMARY KEY (series_id);
ALTER TABLE ONLY iot_service.series
    ADD CONSTRAINT series_pkey PRIMARY KEY (series_id);
ALTER TABLE ONLY iot_service.series_profiles
    ADD CONSTRAINT series_profiles_pkey PRIMARY KEY (series_id, profile, firmware);
ALTER TABLE ONLY iot_service.sites
    ADD CONSTRAINT sites_pkey PRIMARY KEY (site);
ALTER TABLE ONLY iot_service.user_behavior_patterns
    ADD CONSTRAINT user_behavior_patterns_pkey PRIMARY KEY (pattern_id);
ALTER TABLE ONLY iot_service.zones
    ADD CONSTRAINT zones_pkey PRIMARY KEY (location_id);
ALTER TABLE ONLY iot_service.zones
    ADD CONSTRAINT zones_site_zone_key UNIQUE (site, zone);
CREATE INDEX corrections_device ON iot_service.corrections USING btree (device_id, number);
CREATE INDEX data_gaps_gateway_time ON iot_service.data_gaps USING btree (gateway_id, recorded_at DESC);
CREATE INDEX data_gaps_presumed ON iot_service.data_gaps USING btree (gateway_id, epoch) WHERE (reason = 'presumed_lost'::text);
CREATE INDEX device_placements_location ON iot_service.device_placements USING btree (location_id);
CREATE INDEX erased_intervals_erasure ON iot_service.erased_intervals USING btree (erasure_id);
CREATE INDEX job_runs_by_job ON iot_service.job_runs USING btree (job, run_id DESC);
CREATE INDEX ledger_first_seen ON iot_service.ledger USING btree (gateway_id, first_seen_at);
CREATE INDEX ledger_unsettled ON iot_service.ledger USING btree (gateway_id, epoch) WHERE unsettled;
CREATE INDEX quarantine_of_gateway ON iot_service.quarantine USING btree (gateway_id, replayed_at);
CREATE INDEX quarantine_waiting ON iot_service.quarantine USING btree (quarantine_id) WHERE (replayed_at IS NULL);
CREATE INDEX raw_frames_created ON iot_service.raw_frames USING btree (created_at);
CREATE INDEX raw_frames_device ON iot_service.raw_frames USING btree (device_id, first_at);
CREATE INDEX sensor_readings_series_time ON ONLY iot_service.sensor_readings USING btree (series_id, recorded_at);
CREATE UNIQUE INDEX user_behavior_patterns_anonymous ON iot_service.user_behavior_patterns USING btree (location_id, visit_date, time_slot) WHERE (user_id IS NULL);
CREATE INDEX user_behavior_patterns_date ON iot_service.user_behavior_patterns USING btree (visit_date);
ALTER TABLE ONLY iot_service.correction_revisions
    ADD CONSTRAINT correction_revisions_device_id_fkey FOREIGN KEY (device_id) REFERENCES iot_service.iot_devices(device_id);
ALTER TABLE ONLY iot_service.correction_revisions
    ADD CONSTRAINT correction_revisions_number_fkey FOREIGN KEY (number) REFERENCES iot_service.corrections(number);
ALTER TABLE ONLY iot_service.corrections
    ADD CONSTRAINT corrections_device_id_fkey FOREIGN KEY (device_id) REFERENCES iot_service.iot_devices(device_id);
ALTER TABLE ONLY iot_service.corrections
    ADD CONSTRAINT corrections_withdraws_fkey FOREIGN KEY (withdraws) REFERENCES iot_service.corrections(number);
ALTER TABLE ONLY iot_service.data_gaps
    ADD CONSTRAINT data_gaps_gateway_id_fkey FOREIGN KEY (gateway_id) REFERENCES iot_service.gateways(gateway_id);
ALTER TABLE ONLY iot_service.device_placements
    ADD CONSTRAINT device_placements_device_id_fkey FOREIGN KEY (device_id) REFERENCES iot_service.iot_devices(device_id);
ALTER TABLE ONLY iot_service.device_placements
    ADD CONSTRAINT device_placements_location_id_fkey FOREIGN KEY (location_id) REFERENCES iot_service.zones(location_id);
ALTER TABLE ONLY iot_service.device_successions
    ADD CONSTRAINT device_successions_device_id_fkey FOREIGN KEY (device_id) REFERENCES iot_service.iot_devices(device_id);
ALTER TABLE ONLY iot_service.device_successions
    ADD CONSTRAINT device_successions_predecessor_id_fkey FOREIGN KEY (predecessor_id) REFERENCES iot_service.iot_devices(device_id);
ALTER TABLE ONLY iot_service.erased_intervals
    ADD CONSTRAINT erased_intervals_erasure_id_fkey FOREIGN KEY (erasure_id) REFERENCES iot_service.erasures(erasure_id);
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
ALTER TABLE ONLY iot_service.raw_frames
    ADD CONSTRAINT raw_frames_device_id_fkey FOREIGN KEY (device_id) REFERENCES iot_service.iot_devices(device_id);
ALTER TABLE ONLY iot_service.series
    ADD CONSTRAINT series_device_id_fkey FOREIGN KEY (device_id) REFERENCES iot_service.iot_devices(device_id);
ALTER TABLE ONLY iot_service.series_profiles
    ADD CONSTRAINT series_profiles_series_id_fkey FOREIGN KEY (series_id) REFERENCES iot_service.series(series_id);
ALTER TABLE ONLY iot_service.user_behavior_patterns
    ADD CONSTRAINT user_behavior_patterns_location_id_fkey FOREIGN KEY (location_id) REFERENCES iot_service.zones(location_id);
GRANT USAGE ON SCHEMA iot_service TO iot_ingest;
GRANT USAGE ON SCHEMA iot_service TO iot_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.profile_channels TO iot_ingest;
GRANT SELECT ON TABLE iot_service.profile_channels TO iot_reader;
GRANT SELECT,INSERT ON TABLE iot_service.series TO iot_ingest;
GRANT SELECT ON TABLE iot_service.series TO iot_reader;
GRANT SELECT,INSERT ON TABLE iot_service.series_profiles TO iot_ingest;
GRANT SELECT ON TABLE iot_service.series_profiles TO iot_reader;
GRANT SELECT ON TABLE iot_service.device_placements TO iot_ingest;
GRANT SELECT ON TABLE iot_service.device_placements TO iot_reader;
GRANT SELECT ON TABLE iot_service.zones TO iot_ingest;
GRANT SELECT ON TABLE iot_service.zones TO iot_reader;
GRANT SELECT ON TABLE iot_service.device_locations TO iot_ingest;
GRANT SELECT ON TABLE iot_service.device_locations TO iot_reader;
GRANT SELECT,INSERT ON TABLE iot_service.sensor_readings TO iot_ingest;
GRANT SELECT ON TABLE iot_service.sensor_readings TO iot_reader;
REVOKE ALL ON FUNCTION iot_service.grant_roles() FROM PUBLIC;
REVOKE ALL ON FUNCTION iot_service.make_month(first timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION iot_service.make_month(first timestamp with time zone) TO iot_ingest;
GRANT SELECT,INSERT,UPDATE ON TABLE iot_service.gateways TO iot_ingest;
GRANT SELECT ON TABLE iot_service.gateways TO iot_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.ledger TO iot_ingest;
GRANT SELECT ON TABLE iot_service.ledger TO iot_reader;
GRANT SELECT ON TABLE iot_service.books_by_epoch TO iot_ingest;
GRANT SELECT ON TABLE iot_service.books_by_epoch TO iot_reader;
GRANT SELECT,INSERT,UPDATE ON TABLE iot_service.ledger_archive TO iot_ingest;
GRANT SELECT ON TABLE iot_service.ledger_archive TO iot_reader;
GRANT SELECT ON TABLE iot_service.books TO iot_ingest;
GRANT SELECT ON TABLE iot_service.books TO iot_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.changed_days TO iot_ingest;
GRANT SELECT ON TABLE iot_service.changed_days TO iot_reader;
GRANT SELECT,INSERT ON TABLE iot_service.correction_revisions TO iot_ingest;
GRANT SELECT ON TABLE iot_service.correction_revisions TO iot_reader;
GRANT SELECT ON TABLE iot_service.corrections TO iot_ingest;
GRANT SELECT ON TABLE iot_service.corrections TO iot_reader;
GRANT SELECT,INSERT,UPDATE ON TABLE iot_service.data_gaps TO iot_ingest;
GRANT SELECT ON TABLE iot_service.data_gaps TO iot_reader;
GRANT SELECT ON TABLE iot_service.device_successions TO iot_ingest;
GRANT SELECT ON TABLE iot_service.device_successions TO iot_reader;
GRANT SELECT,INSERT,UPDATE ON TABLE iot_service.iot_devices TO iot_ingest;
GRANT SELECT ON TABLE iot_service.iot_devices TO iot_reader;
GRANT SELECT ON TABLE iot_service.device_lineage TO iot_ingest;
GRANT SELECT ON TABLE iot_service.device_lineage TO iot_reader;
GRANT SELECT ON TABLE iot_service.device_history TO iot_ingest;
GRANT SELECT ON TABLE iot_service.device_history TO iot_reader;
GRANT SELECT ON TABLE iot_service.erased_intervals TO iot_ingest;
GRANT SELECT ON TABLE iot_service.sites TO iot_ingest;
GRANT SELECT ON TABLE iot_service.sites TO iot_reader;
GRANT SELECT ON TABLE iot_service.erased_series TO iot_ingest;
GRANT SELECT ON TABLE iot_service.erasures TO iot_ingest;
GRANT UPDATE(refused) ON TABLE iot_service.erasures TO iot_ingest;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.rollup_site_day TO iot_ingest;
GRANT SELECT ON TABLE iot_service.rollup_site_day TO iot_reader;
GRANT SELECT ON TABLE iot_service.fact_sensor_daily TO iot_ingest;
GRANT SELECT ON TABLE iot_service.fact_sensor_daily TO iot_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.gateway_instances TO iot_ingest;
GRANT SELECT ON TABLE iot_service.gateway_instances TO iot_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.rollup_1h TO iot_ingest;
GRANT SELECT ON TABLE iot_service.rollup_1h TO iot_reader;
GRANT SELECT ON TABLE iot_service.hourly_sensor_averages TO iot_ingest;
GRANT SELECT ON TABLE iot_service.hourly_sensor_averages TO iot_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.job_runs TO iot_ingest;
GRANT SELECT ON TABLE iot_service.job_runs TO iot_reader;
GRANT SELECT,INSERT,UPDATE ON TABLE iot_service.series_latest TO iot_ingest;
GRANT SELECT ON TABLE iot_service.series_latest TO iot_reader;
GRANT SELECT ON TABLE iot_service.latest_readings TO iot_ingest;
GRANT SELECT ON TABLE iot_service.latest_readings TO iot_reader;
GRANT SELECT ON TABLE iot_service.ledger_identity TO iot_ingest;
GRANT SELECT ON TABLE iot_service.ledger_identity TO iot_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.quarantine TO iot_ingest;
GRANT SELECT(quarantine_id) ON TABLE iot_service.quarantine TO iot_reader;
GRANT SELECT(received_at) ON TABLE iot_service.quarantine TO iot_reader;
GRANT SELECT(gateway_id) ON TABLE iot_service.quarantine TO iot_reader;
GRANT SELECT(epoch) ON TABLE iot_service.quarantine TO iot_reader;
GRANT SELECT(seq) ON TABLE iot_service.quarantine TO iot_reader;
GRANT SELECT(reason) ON TABLE iot_service.quarantine TO iot_reader;
GRANT SELECT(detail) ON TABLE iot_service.quarantine TO iot_reader;
GRANT SELECT(readings) ON TABLE iot_service.quarantine TO iot_reader;
GRANT SELECT(replayed_at) ON TABLE iot_service.quarantine TO iot_reader;
GRANT SELECT(released) ON TABLE iot_service.quarantine TO iot_reader;
GRANT SELECT,INSERT,DELETE ON TABLE iot_service.raw_frames TO iot_ingest;
GRANT SELECT ON TABLE iot_service.raw_horizon TO iot_ingest;
GRANT SELECT ON TABLE iot_service.raw_horizon TO iot_reader;
GRANT SELECT ON TABLE iot_service.reading_corrections TO iot_ingest;
GRANT SELECT ON TABLE iot_service.reading_corrections TO iot_reader;
GRANT SELECT ON TABLE iot_service.readings TO iot_ingest;
GRANT SELECT ON TABLE iot_service.readings TO iot_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.rollup_1d TO iot_ingest;
GRANT SELECT ON TABLE iot_service.rollup_1d TO iot_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.rollup_1m TO iot_ingest;
GRANT SELECT ON TABLE iot_service.rollup_1m TO iot_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.rollup_log TO iot_ingest;
GRANT SELECT ON TABLE iot_service.rollup_log TO iot_reader;
GRANT SELECT ON TABLE iot_service.schema_migrations TO iot_ingest;
GRANT SELECT ON TABLE iot_service.schema_migrations TO iot_reader;
GRANT SELECT ON TABLE iot_service.schema_objects TO iot_ingest;
GRANT SELECT ON TABLE iot_service.schema_objects TO iot_reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE iot_service.user_behavior_patterns TO iot_ingest;
GRANT SELECT ON TABLE iot_service.user_behavior_patterns TO iot_reader;
GRANT SELECT ON TABLE iot_service.zone_history TO iot_ingest;
GRANT SELECT ON TABLE iot_service.zone_history TO iot_reader;
