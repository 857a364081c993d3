-- The gateway's book of its epochs, whose rows the transaction has locked.
UPDATE iot_service.ledger l
   SET next_seq = GREATEST(l.next_seq, b.next_seq), sealed = GREATEST(l.sealed, b.sealed),
       heard_next = b.next_seq, held = b.held::int8multirange, last_heartbeat_at = now()
  FROM unnest(%(epochs)s::bigint[], %(next_seqs)s::bigint[], %(sealed)s::bigint[], %(held)s::text[])
       AS b (epoch, next_seq, sealed, held)
 WHERE l.gateway_id = %(gateway_id)s AND l.epoch = b.epoch
