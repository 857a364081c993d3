SELECT q.quarantine_id, q.received_at::text, q.gateway_id, g.name, q.epoch, q.seq, q.instance, q.reason, q.detail,
       q.readings, q.indices, q.released, octet_length(q.payload), q.replayed_at::text
  FROM iot_service.quarantine q
  JOIN iot_service.gateways g USING (gateway_id)
 WHERE (%(reason)s::text IS NULL OR q.reason = %(reason)s) AND (%(gateway)s::text IS NULL OR g.name = %(gateway)s)
   AND (NOT %(waiting)s OR q.replayed_at IS NULL)
 ORDER BY q.quarantine_id DESC
 LIMIT %(limit)s
