-- Of each of the given gateways: entries, bytes of their payloads, entries that were replayed already.
SELECT g.gateway_id, count(q.quarantine_id), COALESCE(sum(octet_length(q.payload)), 0)::bigint,
       count(*) FILTER (WHERE q.replayed_at IS NOT NULL)
  FROM unnest(%(gateways)s::int[]) AS g (gateway_id)
  LEFT JOIN iot_service.quarantine q USING (gateway_id)
 GROUP BY g.gateway_id
