UPDATE iot_service.gateway_instances s SET held = true
  FROM iot_service.gateway_instances i
 WHERE i.gateway_id = %(gateway_id)s AND i.instance = %(instance)s
   AND s.gateway_id = i.gateway_id AND s.first_heard_at > i.first_heard_at AND NOT s.held
RETURNING s.instance
