-- What the platform's services and Grafana read, and what storage for years needs beside the line: zones and placements,
-- days by the site's calendar, patterns of use, jobs and their runs, erasure.

CREATE TABLE iot_service.sites (
    site      text PRIMARY KEY,
    time_zone text NOT NULL CHECK ((timestamptz 'epoch' AT TIME ZONE time_zone) IS NOT NULL)
);
COMMENT ON TABLE iot_service.sites IS 'whose days are not those of UTC';

CREATE TABLE iot_service.zones (
    location_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site        text NOT NULL,
    zone        text NOT NULL,
    UNIQUE (site, zone)
);

-- Where a device hung since when: a zone's history is of those devices that were in it at the time.
CREATE TABLE iot_service.device_placements (
    device_id   integer NOT NULL REFERENCES iot_service.iot_devices,
    valid_from  timestamptz NOT NULL,
    location_id integer REFERENCES iot_service.zones,
    position    text,
    PRIMARY KEY (device_id, valid_from)
);
CREATE INDEX device_placements_location ON iot_service.device_placements (location_id);
COMMENT ON COLUMN iot_service.device_placements.location_id IS 'null: taken away';

-- Which device took whose place: the new one's history goes on where the old one's ends.
CREATE TABLE iot_service.device_successions (
    device_id      integer PRIMARY KEY REFERENCES iot_service.iot_devices,
    predecessor_id integer NOT NULL UNIQUE REFERENCES iot_service.iot_devices,
    replaced_at    timestamptz NOT NULL,
    CHECK (device_id <> predecessor_id)
);

-- What firmware profiles state of their channels. Whoever writes readings brings it up to date. What a profile made of a
-- device's number stays known after its next revision has taken its place: from there a reading can be computed back.
CREATE TABLE iot_service.profile_channels (
    profile  text NOT NULL,
    channel  text NOT NULL,
    accuracy text,
    minimum  double precision,
    maximum  double precision,
    quantity text,
    unit     text,
    scale    double precision,
    "offset" double precision,
    source   text,
    PRIMARY KEY (profile, channel)
);
COMMENT ON COLUMN iot_service.profile_channels.source IS 'where the number comes from: the kind of driver, and the register where it has one';

-- Whoever changes readings of [from_at, to_at) says so here, in the same transaction; the next refresh of the rollups
-- takes the entry out. Only ever appended to: two writers never wait for each other.
CREATE TABLE iot_service.rollup_log (
    entry_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    from_at    timestamptz NOT NULL,
    to_at      timestamptz NOT NULL,
    series_ids integer[] NOT NULL,
    CHECK (from_at < to_at)
);

-- What is older has left the table of readings: its rollups stay as they are, and nothing refreshes them any more.
CREATE TABLE iot_service.raw_horizon (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    begins   timestamptz NOT NULL DEFAULT '-infinity'
);
-- A schema `archive` may outlive a way back: its months stay archived.
INSERT INTO iot_service.raw_horizon (begins)
SELECT COALESCE(max((to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC'), '-infinity')
  FROM pg_class c
 WHERE c.relnamespace = to_regnamespace('archive') AND c.relkind = 'r' AND c.relname ~ '^sensor_readings_[0-9]{4}_[0-9]{2}$';

-- A series' day by the calendar of its site. One row a day, however often it is computed.
CREATE TABLE iot_service.rollup_site_day (
    series_id    integer NOT NULL,
    reading_date date NOT NULL,
    total        double precision NOT NULL,
    readings     bigint NOT NULL,
    minimum      double precision NOT NULL,
    maximum      double precision NOT NULL,
    first        double precision NOT NULL,
    last         double precision NOT NULL,
    PRIMARY KEY (series_id, reading_date)
) WITH (fillfactor = 70);

-- Days whose readings changed since patterns of use were last derived from them.
CREATE TABLE iot_service.changed_days (
    site       text NOT NULL,
    visit_date date NOT NULL,
    PRIMARY KEY (site, visit_date)
);

CREATE TABLE iot_service.job_runs (
    run_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job         text NOT NULL,
    server      text NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    ok          boolean,
    detail      text
);
CREATE INDEX job_runs_by_job ON iot_service.job_runs (job, run_id DESC);
COMMENT ON COLUMN iot_service.job_runs.ok IS 'null: under way, or its server died';

-- Readings that were removed on request, and shall not come back: intervals are rules for whatever arrives later.
CREATE TABLE iot_service.erasures (
    erasure_id   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    number       bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    requested_at timestamptz NOT NULL DEFAULT now(),
    requested_by text NOT NULL,
    reason       text NOT NULL,
    scope        text NOT NULL,
    readings     bigint NOT NULL DEFAULT 0,
    refused      bigint NOT NULL DEFAULT 0,
    done_at      timestamptz
);
COMMENT ON COLUMN iot_service.erasures.readings IS 'rows that were removed';
COMMENT ON COLUMN iot_service.erasures.refused IS 'readings that were dropped: in quarantine, or as they arrived';

CREATE TABLE iot_service.erased_intervals (
    erasure_id uuid NOT NULL REFERENCES iot_service.erasures,
    site       text NOT NULL,
    device     text,
    from_at    timestamptz NOT NULL,
    to_at      timestamptz NOT NULL,
    CHECK (from_at < to_at)
);
CREATE INDEX erased_intervals_erasure ON iot_service.erased_intervals (erasure_id);
COMMENT ON COLUMN iot_service.erased_intervals.device IS 'null: every device of the site';

-- What readings of a device mean instead of what arrived: rules for whatever is stored and whatever arrives later. Only
-- ever added to: a withdrawal is an entry of its own.
CREATE TABLE iot_service.corrections (
    number       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id    integer NOT NULL REFERENCES iot_service.iot_devices,
    kind         text NOT NULL,
    from_at      timestamptz NOT NULL,
    to_at        timestamptz NOT NULL DEFAULT 'infinity',
    channel      text,
    unit         text,
    coefficients double precision[],
    was_profile  text,
    profile      text,
    channels     jsonb,
    withdraws    bigint UNIQUE REFERENCES iot_service.corrections,
    made_at      timestamptz NOT NULL DEFAULT now(),
    made_by      text NOT NULL,
    reason       text NOT NULL,
    readings     bigint NOT NULL DEFAULT 0,
    done_at      timestamptz,
    CHECK (from_at < to_at),
    CHECK (CASE kind WHEN 'calibration' THEN num_nulls(channel, unit, coefficients) = 0
                     WHEN 'decoder' THEN num_nulls(was_profile, profile, channels) = 0
                     WHEN 'withdrawal' THEN withdraws IS NOT NULL ELSE false END)
);
CREATE INDEX corrections_device ON iot_service.corrections (device_id, number);
COMMENT ON COLUMN iot_service.corrections.coefficients IS 'of a polynomial in the value as decoded, the constant first';
COMMENT ON COLUMN iot_service.corrections.channels IS 'by channel: unit, and scale and offset of both profiles';
COMMENT ON COLUMN iot_service.corrections.readings IS 'rows that were written anew';
COMMENT ON COLUMN iot_service.corrections.done_at IS 'null: in force, and stored readings do not all follow it yet';

-- What sensor_readings.revision stands for: the device's rules up to a number, and whose profile had given the value that
-- arrived its meaning. Empty: that is not known.
CREATE TABLE iot_service.correction_revisions (
    device_id integer NOT NULL REFERENCES iot_service.iot_devices,
    revision  smallint NOT NULL CHECK (revision > 0),
    number    bigint NOT NULL REFERENCES iot_service.corrections,
    profile   text NOT NULL,
    PRIMARY KEY (device_id, revision),
    UNIQUE (device_id, number, profile)
);

-- Frames as devices sent them, of readings that were decoded: kept for a while where the operator wants it, so that they can
-- be decoded again. A block holds those of one batch (storage/frames/blocks.py has its format).
CREATE TABLE iot_service.raw_frames (
    block_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id  integer NOT NULL REFERENCES iot_service.iot_devices,
    profile    text NOT NULL,
    firmware   text NOT NULL,
    first_at   timestamptz NOT NULL,
    last_at    timestamptz NOT NULL,
    frames     integer NOT NULL,
    content    bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX raw_frames_device ON iot_service.raw_frames (device_id, first_at);
CREATE INDEX raw_frames_created ON iot_service.raw_frames (created_at);

-- With 7 columns beside it a null costs no room: a row's bitmap of nulls has 8 bits before it grows.
ALTER TABLE iot_service.sensor_readings ADD COLUMN raw_value double precision;
COMMENT ON COLUMN iot_service.sensor_readings.raw_value IS 'the value that arrived; null: it is `value`';
COMMENT ON COLUMN iot_service.sensor_readings.revision IS 'which rules it follows (correction_revisions); 0: it arrived before its device had any';

-- How people use a zone, by day and part of the day: anonymous. The platform's users are named only where it has any.
DO $$
DECLARE
    key_type text;
    key_name name;
BEGIN
    SELECT a.attname, format_type(a.atttypid, a.atttypmod) INTO key_name, key_type
      FROM pg_constraint c
      JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
     WHERE c.conrelid = to_regclass('public.users') AND c.contype = 'p' AND cardinality(c.conkey) = 1;
    EXECUTE format($table$
        CREATE TABLE iot_service.user_behavior_patterns (
            pattern_id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            user_id                   %s,
            location_id               integer NOT NULL REFERENCES iot_service.zones,
            visit_date                date NOT NULL,
            time_slot                 text NOT NULL CHECK (time_slot IN ('morning', 'afternoon', 'evening')),
            dwell_time_minutes        integer NOT NULL CHECK (dwell_time_minutes >= 0),
            interaction_points        integer NOT NULL CHECK (interaction_points >= 0),
            movement_pattern          text NOT NULL CHECK (movement_pattern IN ('none', 'passing', 'moving', 'staying')),
            preference_indicators     jsonb NOT NULL,
            comfort_level             smallint CHECK (comfort_level BETWEEN 1 AND 5),
            environmental_preferences jsonb NOT NULL,
            computed_at               timestamptz NOT NULL DEFAULT now()
        )$table$, COALESCE(key_type, 'uuid'));
    IF key_name IS NOT NULL THEN
        BEGIN
            EXECUTE format('ALTER TABLE iot_service.user_behavior_patterns ADD CONSTRAINT user_behavior_patterns_user'
                           ' FOREIGN KEY (user_id) REFERENCES public.users (%I)', key_name);
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE NOTICE 'public.users may not be referenced by %: user_id stands without a reference', current_user;
        END;
    END IF;
END $$;
CREATE UNIQUE INDEX user_behavior_patterns_anonymous
    ON iot_service.user_behavior_patterns (location_id, visit_date, time_slot) WHERE user_id IS NULL;
CREATE INDEX user_behavior_patterns_date ON iot_service.user_behavior_patterns (visit_date);

-- The name is the platform's, for a view that names devices and quantities (0005).
ALTER TABLE iot_service.latest_readings RENAME TO series_latest;
ALTER INDEX iot_service.latest_readings_pkey RENAME TO series_latest_pkey;

-- What a migration has left, so that what is changed by hand can be told.
CREATE TABLE iot_service.schema_objects (
    kind       text NOT NULL,
    name       text NOT NULL,
    definition text NOT NULL,
    PRIMARY KEY (kind, name)
);
