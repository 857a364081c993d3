UPDATE iot_service.gateways
   SET state = 'online', instance = %(instance)s, version = %(version)s, last_heartbeat_at = now(),
       state_changed_at = CASE WHEN state = 'online' THEN state_changed_at ELSE now() END,
       clock_offset_us = %(sent_at_us)s::bigint - (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
       spool_bytes = %(bytes)s, spool_bound_bytes = %(bound_bytes)s, spool_batches = %(batches)s, spool_readings = %(readings)s
 WHERE gateway_id = %(gateway_id)s
