-- Those that can be counted anew.
DELETE FROM iot_service.rollup_site_day r
 USING iot_service.series s, iot_service.iot_devices d
 WHERE s.series_id = r.series_id AND d.device_id = s.device_id AND d.site = %(site)s
   AND r.reading_date > (SELECT begins FROM iot_service.raw_horizon)::date
