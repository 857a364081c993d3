-- In key order, so that two workers cannot wait for each other in a circle.
INSERT INTO iot_service.ledger (gateway_id, epoch)
SELECT k.gateway_id, k.epoch
  FROM unnest(%(gateways)s::int[], %(epochs)s::bigint[]) AS k (gateway_id, epoch)
 ORDER BY k.gateway_id, k.epoch
ON CONFLICT (gateway_id, epoch) DO NOTHING
