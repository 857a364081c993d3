-- Leaves of an entry, which the transaction has locked, the readings of `payload` alone; without any it goes.
-- Those that waited and are gone count as dropped.
WITH gone AS (
    DELETE FROM iot_service.quarantine WHERE quarantine_id = %(quarantine_id)s AND %(left)s = 0
), kept AS (
    UPDATE iot_service.quarantine SET readings = %(left)s, indices = NULL, payload = %(payload)s
     WHERE quarantine_id = %(quarantine_id)s AND %(left)s > 0
)
UPDATE iot_service.ledger SET quarantined = quarantined - %(dropped)s, dropped = dropped + %(dropped)s
 WHERE gateway_id = %(gateway_id)s AND epoch = %(epoch)s AND %(dropped)s > 0
