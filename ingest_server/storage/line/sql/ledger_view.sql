-- What the ledger knows of the given batches: one row for each that is settled or presumed lost.
-- Read without a lock it may be out of date in one direction only: something may have been settled since.
SELECT b.n - 1, l.settled @> b.seq, l.presumed_lost @> b.seq
  FROM unnest(%(gateways)s::int[], %(epochs)s::bigint[], %(seqs)s::bigint[]) WITH ORDINALITY AS b (gateway_id, epoch, seq, n)
  JOIN iot_service.ledger l USING (gateway_id, epoch)
 WHERE l.settled @> b.seq OR l.presumed_lost @> b.seq
