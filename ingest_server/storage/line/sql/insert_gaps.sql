-- All gaps of a group at once: one batch may name thousands.
INSERT INTO iot_service.data_gaps (gateway_id, epoch, seqs, reason, readings, from_at, to_at)
SELECT g.gateway_id, g.epoch, g.seqs::int8multirange, g.reason, g.readings,
       timestamptz 'epoch' + g.from_us * interval '1 microsecond', timestamptz 'epoch' + g.to_us * interval '1 microsecond'
  FROM unnest(%(gateways)s::int[], %(epochs)s::bigint[], %(seqs)s::text[], %(reasons)s::text[], %(readings)s::bigint[],
              %(from_us)s::bigint[], %(to_us)s::bigint[])
       AS g (gateway_id, epoch, seqs, reason, readings, from_us, to_us)
