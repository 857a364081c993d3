SELECT COALESCE(max(number), 0) FROM iot_service.erasures
