SELECT q.quarantine_id, q.received_at::text, g.name, q.epoch, q.seq, q.reason, q.detail, q.readings, q.indices,
       q.replayed_at::text, q.payload
  FROM iot_service.quarantine q
  JOIN iot_service.gateways g USING (gateway_id)
 WHERE q.quarantine_id = %(quarantine_id)s
