SELECT q.quarantine_id, q.received_at::text, q.gateway_id, g.name, q.epoch, q.seq, q.instance, q.reason, q.detail,
       q.readings, q.indices, q.released, octet_length(q.payload), q.replayed_at::text, q.payload
  FROM iot_service.quarantine q
  JOIN iot_service.gateways g USING (gateway_id)
 WHERE q.quarantine_id = %(quarantine_id)s
