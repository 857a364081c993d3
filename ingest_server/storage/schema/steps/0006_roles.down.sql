DROP FUNCTION iot_service.grant_roles;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'iot_ingest') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA iot_service TO iot_ingest;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'iot_reader') THEN
        GRANT SELECT ON ALL TABLES IN SCHEMA iot_service TO iot_reader;
    END IF;
END $$;
