SELECT g.name, g.state, g.version, g.last_heartbeat_at::text AS last_heartbeat_at,
       (SELECT max(l.last_batch_at)::text FROM iot_service.ledger l WHERE l.gateway_id = g.gateway_id) AS last_batch_at,
       (SELECT count(*) FROM iot_service.iot_devices d WHERE d.home_gateway_id = g.gateway_id) AS devices,
       g.spool_batches, g.spool_readings, round(g.clock_offset_us / 1000.0)::bigint AS clock_offset_ms,
       (SELECT count(*) FROM iot_service.gateway_instances i WHERE i.gateway_id = g.gateway_id AND i.held) AS held_instances
  FROM iot_service.gateways g
 ORDER BY g.name
