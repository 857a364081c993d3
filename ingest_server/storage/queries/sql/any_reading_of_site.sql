SELECT d.device, r.recorded_at
  FROM iot_service.iot_devices d
  JOIN iot_service.series s USING (device_id)
 CROSS JOIN LATERAL (SELECT r.recorded_at FROM iot_service.sensor_readings r
                      WHERE r.series_id = s.series_id AND r.recorded_at >= %(from_at)s AND r.recorded_at < %(to_at)s
                      ORDER BY r.recorded_at LIMIT 1) r
 WHERE d.site = %(site)s
 LIMIT 1
