UPDATE iot_service.iot_devices SET home_gateway_id = %(home)s, home_since = now()
 WHERE device_id = %(device_id)s AND home_gateway_id = %(was)s
