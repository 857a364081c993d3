-- Readings of some series that follow no rule, and were written after a second profile was first met.
SELECT s.series_id, r.readings
  FROM unnest(%(series_ids)s::int[], %(since_us)s::bigint[]) AS s (series_id, since_us)
 CROSS JOIN LATERAL (SELECT count(*) AS readings FROM iot_service.sensor_readings o
                      WHERE o.series_id = s.series_id AND o.recorded_at >= %(from_at)s::timestamptz
                        AND o.recorded_at < %(to_at)s::timestamptz AND o.revision = 0
                        AND o.created_at >= timestamptz 'epoch' + s.since_us * interval '1 microsecond') r
