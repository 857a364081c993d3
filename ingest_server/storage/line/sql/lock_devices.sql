-- In order of their numbers, as everybody locks devices who changes several.
SELECT d.device_id
  FROM iot_service.iot_devices d
  JOIN unnest(%(sites)s::text[], %(devices)s::text[]) AS w (site, device) USING (site, device)
 ORDER BY d.device_id
   FOR NO KEY UPDATE OF d
