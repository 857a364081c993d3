INSERT INTO iot_service.data_gaps (gateway_id, epoch, seqs, reason, readings, from_at, to_at)
VALUES (%(gateway_id)s, %(epoch)s, %(seqs)s::int8multirange, %(reason)s, %(readings)s,
        timestamptz 'epoch' + %(from_us)s::bigint * interval '1 microsecond',
        timestamptz 'epoch' + %(to_us)s::bigint * interval '1 microsecond')
