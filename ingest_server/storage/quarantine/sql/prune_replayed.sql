DELETE FROM iot_service.quarantine
 WHERE gateway_id = %(gateway_id)s AND replayed_at < now() - %(days)s * interval '1 day'
