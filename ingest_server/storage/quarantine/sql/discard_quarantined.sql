-- A replay that was begun before has changed `readings`: then nothing is done.
WITH gone AS (
    DELETE FROM iot_service.quarantine
     WHERE quarantine_id = %(quarantine_id)s AND readings = %(was)s AND replayed_at IS NULL
    RETURNING gateway_id, epoch, seq, readings
), moved AS (
    UPDATE iot_service.ledger l
       SET quarantined = l.quarantined - gone.readings, dropped = l.dropped + gone.readings
      FROM gone
     WHERE l.gateway_id = gone.gateway_id AND l.epoch = gone.epoch
), told AS (
    INSERT INTO iot_service.data_gaps (gateway_id, epoch, seqs, reason, readings, from_at, to_at)
    SELECT gateway_id, epoch, int8multirange(int8range(seq, seq + 1)), 'discarded', readings,
           timestamptz 'epoch' + %(from_us)s::bigint * interval '1 microsecond',
           timestamptz 'epoch' + %(to_us)s::bigint * interval '1 microsecond'
      FROM gone
     WHERE readings > 0
)
SELECT readings FROM gone
