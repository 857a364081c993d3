-- Only an empty schema is taken away: nothing else would hold its readings then.
DO $$
BEGIN
    IF EXISTS (SELECT FROM iot_service.sensor_readings) OR EXISTS (SELECT FROM iot_service.ledger) THEN
        RAISE EXCEPTION 'the schema holds readings or their books: to give them up, DROP SCHEMA iot_service CASCADE';
    END IF;
END $$;
DROP VIEW iot_service.books, iot_service.books_by_epoch;
DROP FUNCTION iot_service.make_month;
DROP TABLE iot_service.quarantine, iot_service.data_gaps, iot_service.ledger, iot_service.latest_readings,
    iot_service.sensor_readings, iot_service.series_profiles, iot_service.series, iot_service.iot_devices,
    iot_service.gateway_instances, iot_service.gateways, iot_service.ledger_identity;
