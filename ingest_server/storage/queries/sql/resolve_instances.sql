-- All instances are forgotten: whoever speaks next begins anew, and two that still share the name show again.
DELETE FROM iot_service.gateway_instances WHERE gateway_id = %(gateway_id)s
