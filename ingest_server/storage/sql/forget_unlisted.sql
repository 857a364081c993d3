-- An epoch that the gateway does not list is not in its spool any more: it holds nothing of it.
UPDATE iot_service.ledger SET held = '{}'
 WHERE gateway_id = %(gateway_id)s AND NOT epoch = ANY(%(epochs)s::bigint[]) AND NOT isempty(held)
