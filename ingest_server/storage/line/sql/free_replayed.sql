-- As many of a gateway's replayed entries as are wanted, the oldest first; the size of each.
DELETE FROM iot_service.quarantine
 WHERE quarantine_id IN (
       SELECT quarantine_id
         FROM (SELECT quarantine_id, row_number() OVER before - 1 AS entries,
                      sum(octet_length(payload)) OVER before - octet_length(payload) AS bytes
                 FROM iot_service.quarantine
                WHERE gateway_id = %(gateway_id)s AND replayed_at IS NOT NULL
               WINDOW before AS (ORDER BY replayed_at, quarantine_id)) r
        WHERE r.entries < %(entries)s OR r.bytes < %(bytes)s)
RETURNING octet_length(payload)
