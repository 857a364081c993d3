SELECT d.device_id, d.device, d.location, s.quantity, s.channel, l.value, s.unit,
       l.reliability / 100.0::double precision, l.recorded_at, l.causes
  FROM iot_service.iot_devices d
  JOIN iot_service.series s USING (device_id)
  JOIN iot_service.series_latest l USING (series_id)
 WHERE d.device_id = %(device_id)s
 ORDER BY s.quantity, s.channel, s.series_id
