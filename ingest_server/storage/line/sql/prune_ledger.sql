-- What its gateway has ceased to list, though it goes on speaking: one that was silent for longer lists all of it again
-- when it comes back, and would seem to have lost what was forgotten here.
-- Rows that are locked are in use: they are not old, or their turn comes again. A presumed loss stays, to be corrected.
WITH old AS (
    SELECT l.gateway_id, l.epoch
      FROM iot_service.ledger l JOIN iot_service.gateways g USING (gateway_id)
     WHERE NOT l.unsettled AND isempty(l.presumed_lost)
       AND GREATEST(l.first_seen_at, l.last_batch_at, l.last_heartbeat_at) < now() - %(days)s * interval '1 day'
       AND g.last_heartbeat_at > GREATEST(l.first_seen_at, l.last_batch_at, l.last_heartbeat_at) + interval '1 day'
       AND l.sealed = l.committed + l.quarantined + l.dropped
       AND NOT EXISTS (SELECT FROM iot_service.quarantine q
                        WHERE q.gateway_id = l.gateway_id AND q.epoch = l.epoch AND q.replayed_at IS NULL)
     ORDER BY l.gateway_id, l.epoch
       FOR UPDATE OF l SKIP LOCKED
), gone AS (
    DELETE FROM iot_service.ledger l USING old
     WHERE l.gateway_id = old.gateway_id AND l.epoch = old.epoch
    RETURNING l.*
), kept AS (
    INSERT INTO iot_service.ledger_archive AS a
           (gateway_id, epochs, sealed, committed, quarantined, dropped, duplicates, replayed)
    SELECT gateway_id, count(*), sum(sealed), sum(committed), sum(quarantined), sum(dropped), sum(duplicates),
           sum(replayed)
      FROM gone GROUP BY gateway_id ORDER BY gateway_id
    ON CONFLICT (gateway_id) DO UPDATE
       SET epochs = a.epochs + excluded.epochs, sealed = a.sealed + excluded.sealed,
           committed = a.committed + excluded.committed, quarantined = a.quarantined + excluded.quarantined,
           dropped = a.dropped + excluded.dropped, duplicates = a.duplicates + excluded.duplicates,
           replayed = a.replayed + excluded.replayed
)
SELECT count(*) FROM gone
