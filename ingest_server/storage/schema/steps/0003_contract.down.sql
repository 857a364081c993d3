-- Without its rules a spool would bring back what was erased.
DO $$
BEGIN
    IF EXISTS (SELECT FROM iot_service.erasures) THEN
        RAISE EXCEPTION 'erasures are in force: version 2 would let what was erased come back';
    END IF;
    IF EXISTS (SELECT FROM iot_service.corrections) THEN
        RAISE EXCEPTION 'corrections were made: version 2 would forget what readings mean';
    END IF;
END $$;
ALTER TABLE iot_service.sensor_readings DROP COLUMN raw_value;
DROP TABLE iot_service.raw_frames, iot_service.correction_revisions, iot_service.corrections;
ALTER INDEX iot_service.series_latest_pkey RENAME TO latest_readings_pkey;
ALTER TABLE iot_service.series_latest RENAME TO latest_readings;
DROP TABLE iot_service.user_behavior_patterns, iot_service.erased_intervals, iot_service.erasures, iot_service.job_runs,
    iot_service.changed_days, iot_service.rollup_site_day, iot_service.raw_horizon, iot_service.rollup_log,
    iot_service.profile_channels, iot_service.device_successions, iot_service.device_placements, iot_service.zones,
    iot_service.schema_objects,
    iot_service.sites;
