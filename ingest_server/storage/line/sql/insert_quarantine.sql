INSERT INTO iot_service.quarantine (gateway_id, epoch, seq, instance, reason, detail, readings, indices, payload)
VALUES (%(gateway_id)s, %(epoch)s, %(seq)s, %(instance)s, %(reason)s, %(detail)s, %(readings)s, %(indices)s, %(payload)s)
