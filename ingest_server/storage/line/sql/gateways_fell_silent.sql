-- A gateway whose broker died with it leaves no last will: three missed heartbeats say the same.
UPDATE iot_service.gateways
   SET state = 'offline', state_changed_at = now()
 WHERE state = 'online' AND last_heartbeat_at < now() - %(silence_s)s * interval '1 second'
RETURNING gateway_id, name
