-- Since when seqs are missing: sealed, as far as anybody said, but neither settled here nor held there.
UPDATE iot_service.ledger l
   SET missing_since = CASE WHEN m.missing THEN COALESCE(l.missing_since, now()) END
  FROM (SELECT gateway_id, epoch, NOT isempty(missing) AS missing
          FROM iot_service.books_by_epoch
         WHERE gateway_id = %(gateway_id)s AND epoch = ANY(%(epochs)s::bigint[])) m
 WHERE l.gateway_id = m.gateway_id AND l.epoch = m.epoch AND (l.missing_since IS NOT NULL) <> m.missing
