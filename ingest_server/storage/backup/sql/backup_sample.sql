-- A few hours of a few series, added up in one order: the same rows give the same sum.
SELECT w.series_id, w.hour_us, r.readings, r.total, r.minimum, r.maximum
  FROM unnest(%(series_ids)s::int[], %(hours_us)s::bigint[]) AS w (series_id, hour_us)
 CROSS JOIN LATERAL (SELECT timestamptz 'epoch' + w.hour_us * interval '1 microsecond' AS from_at) h
 CROSS JOIN LATERAL (
    SELECT count(*) AS readings, sum(o.value ORDER BY o.recorded_at, o.value) AS total,
           min(o.value) AS minimum, max(o.value) AS maximum
      FROM iot_service.sensor_readings o
     WHERE o.series_id = w.series_id AND o.recorded_at >= h.from_at AND o.recorded_at < h.from_at + interval '1 hour') r
 ORDER BY w.series_id, w.hour_us
