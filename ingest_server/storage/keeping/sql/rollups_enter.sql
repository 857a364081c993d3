INSERT INTO iot_service.rollup_log (from_at, to_at, series_ids)
SELECT timestamptz 'epoch' + first_us * interval '1 microsecond', timestamptz 'epoch' + (last_us + 1) * interval '1 microsecond',
       ARRAY[series_id]
  FROM unnest(%(series_ids)s::int[], %(first_us)s::bigint[], %(last_us)s::bigint[]) AS s (series_id, first_us, last_us)
