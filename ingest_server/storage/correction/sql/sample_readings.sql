-- How many readings of each series a rule reaches, and a few of them: its first two and its last.
SELECT s.series_id, c.readings, r.recorded_us, r.created_us, r.value, r.arrived, r.revision
  FROM unnest(%(series_ids)s::int[]) AS s (series_id)
 CROSS JOIN LATERAL (SELECT count(*) AS readings FROM iot_service.sensor_readings o
                      WHERE o.series_id = s.series_id AND o.recorded_at >= %(from_at)s::timestamptz
                        AND o.recorded_at < %(to_at)s::timestamptz) c
 CROSS JOIN LATERAL (
    SELECT (extract(epoch FROM o.recorded_at) * 1000000)::bigint AS recorded_us,
           (extract(epoch FROM o.created_at) * 1000000)::bigint AS created_us,
           o.value, COALESCE(o.raw_value, o.value) AS arrived, o.revision
      FROM ((SELECT * FROM iot_service.sensor_readings f
              WHERE f.series_id = s.series_id AND f.recorded_at >= %(from_at)s::timestamptz
                AND f.recorded_at < %(to_at)s::timestamptz ORDER BY f.recorded_at LIMIT 2)
            UNION ALL
            (SELECT * FROM iot_service.sensor_readings l
              WHERE c.readings > 2 AND l.series_id = s.series_id AND l.recorded_at >= %(from_at)s::timestamptz
                AND l.recorded_at < %(to_at)s::timestamptz ORDER BY l.recorded_at DESC LIMIT 1)) o) r
 ORDER BY s.series_id, r.recorded_us
