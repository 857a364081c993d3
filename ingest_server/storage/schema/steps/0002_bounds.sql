-- Quarantine that is bounded and tells its origin; a ledger that stays small; instances told apart by when they spoke.

ALTER TABLE iot_service.quarantine ADD COLUMN instance bigint, ADD COLUMN released integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN iot_service.quarantine.instance IS 'process that sent it; null: entered before this was kept';
COMMENT ON COLUMN iot_service.quarantine.readings IS 'readings that wait';
COMMENT ON COLUMN iot_service.quarantine.released IS 'readings that a replay has committed';
-- How much a gateway has in quarantine is counted with every entry, and what it replayed first goes first.
CREATE INDEX quarantine_of_gateway ON iot_service.quarantine (gateway_id, replayed_at);

-- `unsettled` is a column so that an index may follow it: a heartbeat looks at what is open, not at every start that a
-- gateway ever made. It seldom changes, so an update of the ledger writes no index.
ALTER TABLE iot_service.ledger
    ADD COLUMN replayed bigint NOT NULL DEFAULT 0,
    ADD COLUMN unsettled boolean NOT NULL
        GENERATED ALWAYS AS (NOT int8multirange(int8range(0, next_seq)) <@ (settled + presumed_lost)) STORED;
COMMENT ON COLUMN iot_service.ledger.replayed IS 'readings, counted in committed, that came out of quarantine';
CREATE INDEX ledger_unsettled ON iot_service.ledger (gateway_id, epoch) WHERE unsettled;
CREATE INDEX ledger_first_seen ON iot_service.ledger (gateway_id, first_seen_at);

-- Epochs that nobody can hold any more, added up: what is sent again of them is older than retention, and refused.
CREATE TABLE iot_service.ledger_archive (
    gateway_id  integer PRIMARY KEY REFERENCES iot_service.gateways,
    epochs      bigint NOT NULL,
    sealed      bigint NOT NULL,
    committed   bigint NOT NULL,
    quarantined bigint NOT NULL,
    dropped     bigint NOT NULL,
    duplicates  bigint NOT NULL,
    replayed    bigint NOT NULL
);

ALTER TABLE iot_service.gateway_instances ADD COLUMN least_delay_us bigint;
COMMENT ON COLUMN iot_service.gateway_instances.least_delay_us IS
    'least time from the gateway''s clock at sending to ours at arrival: what a status has beyond it, it was under way';

CREATE OR REPLACE VIEW iot_service.books_by_epoch AS
SELECT g.name AS gateway, l.gateway_id, l.epoch, l.next_seq, l.sealed, l.committed, l.quarantined, l.dropped, l.lost,
       l.sealed - l.committed - l.quarantined - l.dropped - l.lost AS in_flight,
       l.duplicates, l.last_batch_at, l.last_heartbeat_at, o.open_seqs,
       o.open_seqs * int8multirange(int8range(0, CASE WHEN l.last_batch_at > l.last_heartbeat_at THEN l.heard_next
                                                      ELSE l.next_seq END)) - l.held AS missing,
       l.replayed
  FROM iot_service.ledger l
  JOIN iot_service.gateways g USING (gateway_id)
 CROSS JOIN LATERAL (SELECT int8multirange(int8range(0, l.next_seq)) - l.settled - l.presumed_lost AS open_seqs) o;

CREATE OR REPLACE VIEW iot_service.books AS
SELECT gateway, gateway_id, sum(epochs)::bigint AS epochs, least(sum(sealed), 9223372036854775807)::bigint AS sealed,
       sum(committed)::bigint AS committed, sum(quarantined)::bigint AS quarantined, sum(dropped)::bigint AS dropped,
       least(sum(lost), 9223372036854775807)::bigint AS presumed_lost,
       least(sum(in_flight), 9223372036854775807)::bigint AS in_flight, sum(duplicates)::bigint AS duplicates,
       count(*) FILTER (WHERE missing) AS epochs_with_missing, bool_and(balanced) AS balanced,
       sum(replayed)::bigint AS replayed
  FROM (SELECT gateway, gateway_id, 1 AS epochs, sealed, committed, quarantined, dropped, lost, in_flight, duplicates,
               NOT isempty(missing) AS missing, replayed,
               isempty(missing) AND in_flight >= 0 AND (in_flight = 0 OR NOT isempty(open_seqs)) AS balanced
          FROM iot_service.books_by_epoch
        UNION ALL
        SELECT g.name, gateway_id, a.epochs, a.sealed, a.committed, a.quarantined, a.dropped, 0,
               a.sealed - a.committed - a.quarantined - a.dropped, a.duplicates, false, a.replayed,
               a.sealed = a.committed + a.quarantined + a.dropped
          FROM iot_service.ledger_archive a
          JOIN iot_service.gateways g USING (gateway_id)) e
 GROUP BY gateway, gateway_id;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'iot_ingest') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON iot_service.ledger_archive TO iot_ingest;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'iot_reader') THEN
        GRANT SELECT ON iot_service.ledger_archive TO iot_reader;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'iot_admin') THEN
        GRANT ALL ON iot_service.ledger_archive TO iot_admin;
    END IF;
END $$;
