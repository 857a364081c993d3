SELECT d.site, d.device, g.name AS home, d.status, d.location, d.manufacturer, d.model, d.firmware_version,
       d.last_heartbeat_at::text AS last_heartbeat_at, d.battery_level, d.signal_strength,
       (SELECT count(*) FROM iot_service.series s WHERE s.device_id = d.device_id) AS series
  FROM iot_service.iot_devices d
  JOIN iot_service.gateways g ON g.gateway_id = d.home_gateway_id
 ORDER BY d.site, d.device
