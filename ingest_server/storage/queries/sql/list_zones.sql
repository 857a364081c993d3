SELECT z.site, z.zone, z.location_id, count(p.device_id) AS devices,
       string_agg(d.device, ', ' ORDER BY d.device) AS names
  FROM iot_service.zones z
  LEFT JOIN iot_service.device_locations p
    ON p.location_id = z.location_id AND p.valid_from <= now() AND now() < p.valid_to
  LEFT JOIN iot_service.iot_devices d USING (device_id)
 GROUP BY z.site, z.zone, z.location_id
 ORDER BY z.site, z.zone
