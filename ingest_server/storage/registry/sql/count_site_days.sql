SELECT count(*)
  FROM iot_service.rollup_site_day r
  JOIN iot_service.series s USING (series_id)
  JOIN iot_service.iot_devices d USING (device_id)
 WHERE d.site = %(site)s
