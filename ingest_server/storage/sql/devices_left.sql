UPDATE iot_service.iot_devices SET status = 'inactive'
 WHERE home_gateway_id = ANY(%(gateways)s::int[]) AND status = 'active'
