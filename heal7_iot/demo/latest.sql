-- The newest value of each channel that the table shows.
SELECT d.device, s.channel, l.value
  FROM iot_service.series_latest l
  JOIN iot_service.series s USING (series_id)
  JOIN iot_service.iot_devices d USING (device_id)
 WHERE s.channel IN ('temperature', 'humidity', 'illuminance', 'motion', 'carbon_dioxide', 'pm2_5')
