SELECT DISTINCT gateway_id FROM iot_service.quarantine WHERE replayed_at < now() - %(days)s * interval '1 day'
