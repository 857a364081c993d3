-- An epoch that the gateway does not list is not in its spool any more: it has spoken of it by silence, and holds
-- nothing of it. Epochs that are settled whole are left alone: there is one more with every start, for ever.
UPDATE iot_service.ledger SET held = '{}', last_heartbeat_at = now()
 WHERE gateway_id = %(gateway_id)s AND epoch = ANY(%(epochs)s::bigint[]) AND unsettled
