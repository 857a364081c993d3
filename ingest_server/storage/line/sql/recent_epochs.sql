SELECT g.gateway_id, (SELECT count(*) FROM iot_service.ledger l
                       WHERE l.gateway_id = g.gateway_id AND l.first_seen_at > now() - interval '1 hour')
  FROM unnest(%(gateways)s::int[]) AS g (gateway_id)
