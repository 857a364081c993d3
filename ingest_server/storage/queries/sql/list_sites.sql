SELECT s.site, COALESCE(t.time_zone, 'UTC') AS time_zone,
       (SELECT count(*) FROM iot_service.zones z WHERE z.site = s.site) AS zones,
       (SELECT count(*) FROM iot_service.iot_devices d WHERE d.site = s.site) AS devices
  FROM (SELECT site FROM iot_service.iot_devices
        UNION SELECT site FROM iot_service.zones
        UNION SELECT site FROM iot_service.sites) s
  LEFT JOIN iot_service.sites t USING (site)
 ORDER BY s.site
