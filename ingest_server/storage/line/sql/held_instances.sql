-- Instances that speak under a name that an older one still uses: a handful at most, everywhere.
SELECT gateway_id, instance FROM iot_service.gateway_instances WHERE held
