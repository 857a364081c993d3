-- Whole minutes, and none before the horizon.
INSERT INTO pg_temp.dirty (series_id, from_at, to_at)
SELECT s.series_id, GREATEST(date_bin('1 minute', timestamptz 'epoch' + first_us * interval '1 microsecond', 'epoch'), h.begins),
       date_bin('1 minute', timestamptz 'epoch' + last_us * interval '1 microsecond', 'epoch') + interval '1 minute'
  FROM unnest(%(series_ids)s::int[], %(first_us)s::bigint[], %(last_us)s::bigint[]) AS s (series_id, first_us, last_us),
       iot_service.raw_horizon h
 WHERE timestamptz 'epoch' + last_us * interval '1 microsecond' >= h.begins
