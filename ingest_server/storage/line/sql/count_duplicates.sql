UPDATE iot_service.ledger l
   SET duplicates = l.duplicates + d.copies
  FROM (SELECT gateway_id, epoch, count(*) AS copies
          FROM unnest(%(gateways)s::int[], %(epochs)s::bigint[]) AS b (gateway_id, epoch)
         GROUP BY gateway_id, epoch ORDER BY gateway_id, epoch) d
 WHERE l.gateway_id = d.gateway_id AND l.epoch = d.epoch
