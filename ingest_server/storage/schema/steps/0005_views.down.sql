DROP VIEW iot_service.reading_corrections, iot_service.fact_sensor_daily, iot_service.hourly_sensor_averages, iot_service.latest_readings,
    iot_service.zone_history, iot_service.device_history, iot_service.readings;
DROP FUNCTION iot_service.cause_names, iot_service.accuracy, iot_service.user_presence, iot_service.ambient_conditions,
    iot_service.devices_in_room, iot_service.is_of_device, iot_service.is_presence;
DROP VIEW iot_service.erased_series, iot_service.device_lineage, iot_service.device_locations;
