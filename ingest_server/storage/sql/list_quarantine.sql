SELECT q.quarantine_id, q.received_at::text, g.name, q.epoch, q.seq, q.reason, q.detail, q.readings, q.indices,
       q.replayed_at::text
  FROM iot_service.quarantine q
  JOIN iot_service.gateways g USING (gateway_id)
 WHERE (%(reason)s::text IS NULL OR q.reason = %(reason)s) AND (NOT %(waiting)s OR q.replayed_at IS NULL)
 ORDER BY q.quarantine_id DESC
 LIMIT %(limit)s
