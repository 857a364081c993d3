-- The next entries that wait, and the newest entry of all as it was at the first call: the end of the walk.
SELECT q.quarantine_id, n.newest
  FROM (SELECT COALESCE(%(last)s::bigint, (SELECT max(quarantine_id) FROM iot_service.quarantine)) AS newest) n
  JOIN iot_service.quarantine q ON q.quarantine_id <= n.newest
  JOIN iot_service.gateways g USING (gateway_id)
 WHERE q.quarantine_id > %(after)s AND q.replayed_at IS NULL
   AND (%(reason)s::text IS NULL OR q.reason = %(reason)s) AND (%(gateway)s::text IS NULL OR g.name = %(gateway)s)
 ORDER BY q.quarantine_id
 LIMIT %(limit)s
