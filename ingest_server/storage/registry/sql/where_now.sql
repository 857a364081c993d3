-- The devices' own columns, by the newest placement of each.
UPDATE iot_service.iot_devices d
   SET location = n.zone, position = n.position
  FROM (SELECT v.device_id, z.zone, p.position
          FROM iot_service.iot_devices v
          LEFT JOIN LATERAL (SELECT p.location_id, p.position FROM iot_service.device_placements p
                              WHERE p.device_id = v.device_id ORDER BY p.valid_from DESC LIMIT 1) p ON true
          LEFT JOIN iot_service.zones z USING (location_id)
         WHERE v.device_id IN (%(old)s, %(new)s)) n
 WHERE d.device_id = n.device_id AND (d.location, d.position) IS DISTINCT FROM (n.zone, n.position)
