-- Locked in order of their numbers, as everybody locks devices who changes several.
UPDATE iot_service.iot_devices d SET status = 'inactive'
  FROM (SELECT device_id FROM iot_service.iot_devices
         WHERE home_gateway_id = ANY(%(gateways)s::int[]) AND status = 'active'
         ORDER BY device_id FOR NO KEY UPDATE) locked
 WHERE d.device_id = locked.device_id
