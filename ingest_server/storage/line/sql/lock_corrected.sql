SELECT FROM iot_service.iot_devices
 WHERE device_id = ANY(%(device_ids)s::int[]) AND cardinality(%(profiles)s::text[]) > 0
 ORDER BY device_id FOR UPDATE
