DROP VIEW iot_service.books;
DROP VIEW iot_service.books_by_epoch;
-- What was folded together cannot be told apart by epoch any more, and its readings are in nobody's books without it.
DO $$
BEGIN
    IF EXISTS (SELECT FROM iot_service.ledger_archive) THEN
        RAISE EXCEPTION 'ledger_archive holds the books of epochs that are gone: version 1 has no place for them';
    END IF;
END $$;
DROP TABLE iot_service.ledger_archive;
ALTER TABLE iot_service.gateway_instances DROP COLUMN least_delay_us;
ALTER TABLE iot_service.ledger DROP COLUMN unsettled, DROP COLUMN replayed;
DROP INDEX iot_service.ledger_first_seen;
DROP INDEX iot_service.quarantine_of_gateway;
ALTER TABLE iot_service.quarantine DROP COLUMN released, DROP COLUMN instance;

-- The equation, per gateway: sealed = committed + quarantined + dropped + lost + in_flight.
-- `open_seqs` are neither settled nor presumed lost. `missing` are those of them that the gateway does not hold either:
-- while batches of an epoch still arrive, only up to where the gateway's last heartbeat spoke (what was sealed after it
-- may overtake what was sealed before); once they have ceased, all.
CREATE VIEW iot_service.books_by_epoch AS
SELECT g.name AS gateway, l.gateway_id, l.epoch, l.next_seq, l.sealed, l.committed, l.quarantined, l.dropped, l.lost,
       l.sealed - l.committed - l.quarantined - l.dropped - l.lost AS in_flight,
       l.duplicates, l.last_batch_at, l.last_heartbeat_at, o.open_seqs,
       o.open_seqs * int8multirange(int8range(0, CASE WHEN l.last_batch_at > l.last_heartbeat_at THEN l.heard_next
                                                      ELSE l.next_seq END)) - l.held AS missing
  FROM iot_service.ledger l
  JOIN iot_service.gateways g USING (gateway_id)
 CROSS JOIN LATERAL (SELECT int8multirange(int8range(0, l.next_seq)) - l.settled - l.presumed_lost AS open_seqs) o;

-- Balanced: nothing missing, nothing below zero, and what no seq is open for is not in flight either.
-- A gateway that lies may claim 2^53 readings in each of a thousand epochs: the books of the others must still be read.
CREATE VIEW iot_service.books AS
SELECT gateway, gateway_id, count(*) AS epochs, least(sum(sealed), 9223372036854775807)::bigint AS sealed,
       sum(committed)::bigint AS committed, sum(quarantined)::bigint AS quarantined, sum(dropped)::bigint AS dropped,
       least(sum(lost), 9223372036854775807)::bigint AS presumed_lost,
       least(sum(in_flight), 9223372036854775807)::bigint AS in_flight, sum(duplicates)::bigint AS duplicates,
       count(*) FILTER (WHERE NOT isempty(missing)) AS epochs_with_missing,
       bool_and(isempty(missing) AND in_flight >= 0 AND (in_flight = 0 OR NOT isempty(open_seqs))) AS balanced
  FROM iot_service.books_by_epoch
 GROUP BY gateway, gateway_id;

DO $$
DECLARE granted record;
BEGIN
    FOR granted IN SELECT * FROM (VALUES ('iot_ingest', 'SELECT, INSERT, UPDATE, DELETE'), ('iot_reader', 'SELECT'),
                                         ('iot_admin', 'ALL')) AS g (name, privileges) LOOP
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = granted.name) THEN
            EXECUTE format('GRANT %s ON iot_service.books, iot_service.books_by_epoch TO %I', granted.privileges, granted.name);
        END IF;
    END LOOP;
END $$;
