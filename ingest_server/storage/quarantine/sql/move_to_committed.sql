UPDATE iot_service.ledger
   SET quarantined = quarantined - %(moved)s, committed = committed + %(moved)s, replayed = replayed + %(moved)s
 WHERE gateway_id = %(gateway_id)s AND epoch = %(epoch)s
