SELECT l.gateway_id, l.epoch
  FROM iot_service.ledger l
  JOIN unnest(%(gateways)s::int[], %(epochs)s::bigint[]) AS k (gateway_id, epoch) USING (gateway_id, epoch)
