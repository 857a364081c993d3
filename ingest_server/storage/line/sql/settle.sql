-- Adds what a group settles to the ledger rows that the transaction has locked. What is settled was sealed, whoever
-- has or has not said so yet: `sealed` never falls below it.
UPDATE iot_service.ledger l
   SET settled = l.settled + s.settled::int8multirange,
       presumed_lost = l.presumed_lost - s.settled::int8multirange,
       next_seq = GREATEST(l.next_seq, s.next_seq),
       sealed = GREATEST(l.sealed, s.sealed, l.committed + s.committed + l.quarantined + s.quarantined
                                             + l.dropped + s.dropped + l.lost - s.found),
       committed = l.committed + s.committed,
       quarantined = l.quarantined + s.quarantined,
       dropped = l.dropped + s.dropped,
       lost = l.lost - s.found,
       missing_since = NULL,
       last_batch_at = now()
  FROM unnest(%(gateways)s::int[], %(epochs)s::bigint[], %(settled)s::text[], %(next_seqs)s::bigint[], %(sealed)s::bigint[],
              %(committed)s::bigint[], %(quarantined)s::bigint[], %(dropped)s::bigint[], %(found)s::bigint[])
       AS s (gateway_id, epoch, settled, next_seq, sealed, committed, quarantined, dropped, found)
 WHERE l.gateway_id = s.gateway_id AND l.epoch = s.epoch
RETURNING l.gateway_id, l.epoch, l.settled
