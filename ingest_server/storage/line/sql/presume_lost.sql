-- What is still missing after so long without a word from its epoch. Only where the gateway holds nothing else of the
-- epoch: then all that is not settled is the loss, and its readings are known exactly. Never `settled`: should it
-- arrive after all, it commits and the books are corrected.
WITH lost AS (
    SELECT b.gateway_id, b.epoch, b.missing, b.in_flight AS readings, l.first_seen_at, now() AS at
      FROM iot_service.books_by_epoch b
      JOIN iot_service.ledger l USING (gateway_id, epoch)
     WHERE b.gateway_id = %(gateway_id)s AND b.epoch = ANY(%(epochs)s::bigint[]) AND NOT isempty(b.missing)
       AND b.missing = b.open_seqs
       AND l.missing_since < now() - %(silence_s)s * interval '1 second'
       AND COALESCE(l.last_batch_at, l.first_seen_at) < now() - %(silence_s)s * interval '1 second'
), told AS (
    INSERT INTO iot_service.data_gaps (gateway_id, epoch, seqs, reason, readings, from_at, to_at)
    SELECT gateway_id, epoch, missing, 'presumed_lost', readings, first_seen_at, at FROM lost
)
UPDATE iot_service.ledger l
   SET presumed_lost = l.presumed_lost + lost.missing, lost = l.lost + lost.readings, missing_since = NULL
  FROM lost
 WHERE l.gateway_id = lost.gateway_id AND l.epoch = lost.epoch
RETURNING l.epoch, lost.readings
