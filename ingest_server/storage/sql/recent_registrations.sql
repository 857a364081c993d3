-- How many devices and series each gateway has brought within the last hour.
SELECT d.home_gateway_id,
       count(DISTINCT d.device_id) FILTER (WHERE d.registered_at > now() - interval '1 hour'),
       count(s.series_id) FILTER (WHERE s.registered_at > now() - interval '1 hour')
  FROM iot_service.iot_devices d
  LEFT JOIN iot_service.series s USING (device_id)
 WHERE d.home_gateway_id = ANY(%(gateways)s::int[])
 GROUP BY d.home_gateway_id
