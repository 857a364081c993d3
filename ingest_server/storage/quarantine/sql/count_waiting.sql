SELECT count(*)
  FROM iot_service.quarantine q
  JOIN iot_service.gateways g USING (gateway_id)
 WHERE q.replayed_at IS NULL
   AND (%(reason)s::text IS NULL OR q.reason = %(reason)s) AND (%(gateway)s::text IS NULL OR g.name = %(gateway)s)
