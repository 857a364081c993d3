UPDATE iot_service.ledger l
   SET quarantined = l.quarantined - %(moved)s, committed = l.committed + %(moved)s
  FROM iot_service.quarantine q
 WHERE q.quarantine_id = %(quarantine_id)s AND l.gateway_id = q.gateway_id AND l.epoch = q.epoch
