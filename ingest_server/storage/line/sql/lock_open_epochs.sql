-- What a status may change: the epochs that it lists, and those of which something is open.
SELECT l.epoch
  FROM iot_service.ledger l
 WHERE l.gateway_id = %(gateway_id)s
   AND l.epoch IN (SELECT unnest(%(epochs)s::bigint[])
                   UNION ALL
                   SELECT o.epoch FROM iot_service.ledger o WHERE o.gateway_id = %(gateway_id)s AND o.unsettled)
 ORDER BY l.gateway_id, l.epoch
   FOR UPDATE OF l
