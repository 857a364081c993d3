-- How many devices and series each gateway has brought within the last hour. A series counts once for each profile and
-- firmware that it was seen with: each is a row, and a gateway that invents firmware must not fill the database.
SELECT d.home_gateway_id,
       count(DISTINCT d.device_id) FILTER (WHERE d.registered_at > now() - interval '1 hour'),
       count(p.series_id) FILTER (WHERE p.first_seen_at > now() - interval '1 hour')
  FROM iot_service.iot_devices d
  LEFT JOIN iot_service.series s USING (device_id)
  LEFT JOIN iot_service.series_profiles p USING (series_id)
 WHERE d.home_gateway_id = ANY(%(gateways)s::int[])
 GROUP BY d.home_gateway_id
