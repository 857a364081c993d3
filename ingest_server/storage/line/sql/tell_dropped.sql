-- What is dropped on arrival (no room in quarantine; erased), one row of each (gateway, epoch). A gateway that goes on so grows the row of this
-- hour: with one more for each of its batches it would fill the database by its gaps instead.
WITH told AS (
    SELECT n.gateway_id, n.epoch, n.seqs::int8multirange AS seqs, n.readings,
           timestamptz 'epoch' + n.from_us * interval '1 microsecond' AS from_at,
           timestamptz 'epoch' + n.to_us * interval '1 microsecond' AS to_at
      FROM unnest(%(gateways)s::int[], %(epochs)s::bigint[], %(seqs)s::text[], %(readings)s::bigint[],
                  %(from_us)s::bigint[], %(to_us)s::bigint[])
           AS n (gateway_id, epoch, seqs, readings, from_us, to_us)
), grown AS (
    UPDATE iot_service.data_gaps g
       SET seqs = g.seqs + t.seqs, readings = g.readings + t.readings,
           from_at = LEAST(g.from_at, t.from_at), to_at = GREATEST(g.to_at, t.to_at)
      FROM told t
     WHERE g.gap_id = (SELECT l.gap_id FROM iot_service.data_gaps l
                        WHERE l.gateway_id = t.gateway_id AND l.epoch = t.epoch AND l.reason = %(reason)s
                          AND l.recorded_at > now() - interval '1 hour'
                        ORDER BY l.recorded_at DESC LIMIT 1)
    RETURNING g.gateway_id, g.epoch
)
INSERT INTO iot_service.data_gaps (gateway_id, epoch, seqs, reason, readings, from_at, to_at)
SELECT t.gateway_id, t.epoch, t.seqs, %(reason)s, t.readings, t.from_at, t.to_at
  FROM told t
 WHERE NOT EXISTS (SELECT FROM grown WHERE grown.gateway_id = t.gateway_id AND grown.epoch = t.epoch)
