UPDATE iot_service.series_latest l SET value = r.value
  FROM unnest(%(series_ids)s::int[], %(times_us)s::bigint[], %(values)s::float8[]) AS r (series_id, recorded_us, value)
 WHERE l.series_id = r.series_id
   AND l.recorded_at = timestamptz 'epoch' + r.recorded_us * interval '1 microsecond'
