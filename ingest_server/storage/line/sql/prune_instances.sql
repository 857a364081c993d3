-- What is held stays until an operator resolves it; a gateway's latest instance may only be away.
DELETE FROM iot_service.gateway_instances i
 USING iot_service.gateways g
 WHERE g.gateway_id = i.gateway_id AND NOT i.held AND i.instance IS DISTINCT FROM g.instance
   AND i.last_heard_at < now() - %(days)s * interval '1 day'
