-- What a device's latest readings say of it. Maintenance and error are an operator's to set and to lift. The devices are
-- locked in order of their numbers: a worker that registers others locks them so, too.
UPDATE iot_service.iot_devices d
   SET last_heartbeat_at = n.heard_at,
       battery_level = COALESCE(n.battery, d.battery_level),
       signal_strength = COALESCE(n.signal, d.signal_strength),
       status = CASE WHEN d.status NOT IN ('active', 'inactive') THEN d.status
                     WHEN n.heard_at > now() - %(silence_s)s * interval '1 second' THEN 'active' ELSE 'inactive' END
  FROM (SELECT h.device_id FROM iot_service.iot_devices h
         WHERE h.home_gateway_id = %(gateway_id)s ORDER BY h.device_id FOR NO KEY UPDATE) locked
  JOIN (SELECT s.device_id, max(l.recorded_at) AS heard_at,
               max(l.value) FILTER (WHERE s.quantity = 'battery') AS battery,
               max(l.value) FILTER (WHERE s.quantity IN ('rssi', 'signal_strength')) AS signal
          FROM iot_service.iot_devices h
          JOIN iot_service.series s USING (device_id)
          JOIN iot_service.series_latest l USING (series_id)
         WHERE h.home_gateway_id = %(gateway_id)s
         GROUP BY s.device_id) n USING (device_id)
 WHERE d.device_id = n.device_id
