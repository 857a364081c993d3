-- Each role gets what it needs and nothing else.
CREATE FUNCTION iot_service.grant_roles() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
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
END $$;
REVOKE ALL ON FUNCTION iot_service.grant_roles FROM PUBLIC;
SELECT iot_service.grant_roles();
