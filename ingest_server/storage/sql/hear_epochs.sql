-- The gateway's book of its epochs; in key order, as the group transaction locks them.
INSERT INTO iot_service.ledger AS l (gateway_id, epoch, next_seq, heard_next, sealed, held, last_heartbeat_at)
SELECT %(gateway_id)s, b.epoch, b.next_seq, b.next_seq, b.sealed, b.held::int8multirange, now()
  FROM unnest(%(epochs)s::bigint[], %(next_seqs)s::bigint[], %(sealed)s::bigint[], %(held)s::text[])
       AS b (epoch, next_seq, sealed, held)
 ORDER BY b.epoch
ON CONFLICT (gateway_id, epoch) DO UPDATE
   SET next_seq = GREATEST(l.next_seq, excluded.next_seq), sealed = GREATEST(l.sealed, excluded.sealed),
       heard_next = excluded.heard_next, held = excluded.held, last_heartbeat_at = now()
