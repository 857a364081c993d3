SELECT d.site, d.device, p.zone, p.position, g.name AS home, d.status, d.manufacturer, d.model, d.firmware_version,
       d.last_heartbeat_at::text AS last_heartbeat_at, d.battery_level, d.signal_strength,
       (SELECT count(*) FROM iot_service.series s WHERE s.device_id = d.device_id) AS series,
       (SELECT o.device FROM iot_service.device_successions f JOIN iot_service.iot_devices o ON o.device_id = f.predecessor_id
         WHERE f.device_id = d.device_id) AS replaces
  FROM iot_service.iot_devices d
  JOIN iot_service.gateways g ON g.gateway_id = d.home_gateway_id
  LEFT JOIN iot_service.device_locations p ON p.device_id = d.device_id AND p.valid_from <= now() AND now() < p.valid_to
 ORDER BY d.site, d.device
