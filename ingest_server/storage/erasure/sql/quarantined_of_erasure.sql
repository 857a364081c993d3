-- Entries that may hold what an erasure names: those that gateways of its sites have sent, replayed ones with them.
SELECT q.quarantine_id
  FROM iot_service.quarantine q
  JOIN iot_service.gateways g USING (gateway_id)
 WHERE EXISTS (SELECT FROM iot_service.erased_intervals e
                WHERE e.erasure_id = %(erasure_id)s AND e.site = split_part(g.name, '/', 1))
 ORDER BY q.quarantine_id
