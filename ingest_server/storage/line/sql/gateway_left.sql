-- Its last will, or its goodbye; not that of an instance which another has followed.
UPDATE iot_service.gateways
   SET state = 'offline', state_changed_at = now()
 WHERE name = %(name)s AND state = 'online' AND (instance IS NULL OR instance = %(instance)s)
RETURNING gateway_id
