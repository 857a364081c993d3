-- Whose the devices are, and how long ago their home was last heard of, in seconds.
SELECT d.site, d.device, d.device_id, d.home_gateway_id, g.name,
       extract(epoch FROM now() - GREATEST(g.first_seen_at, d.home_since, g.last_heartbeat_at,
               (SELECT max(l.last_batch_at) FROM iot_service.ledger l WHERE l.gateway_id = d.home_gateway_id)))::float8
  FROM iot_service.iot_devices d
  JOIN iot_service.gateways g ON g.gateway_id = d.home_gateway_id
  JOIN unnest(%(sites)s::text[], %(devices)s::text[]) AS w (site, device) USING (site, device)
