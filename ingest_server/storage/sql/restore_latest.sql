INSERT INTO iot_service.series_latest (series_id, recorded_at, value, reliability, causes)
SELECT w.series_id, r.recorded_at, r.value, r.reliability, r.causes
  FROM unnest(%(series_ids)s::int[]) AS w (series_id)
 CROSS JOIN LATERAL (
    SELECT o.recorded_at, o.value, o.reliability, o.causes FROM iot_service.sensor_readings o
     WHERE o.series_id = w.series_id
       AND NOT EXISTS (SELECT FROM iot_service.erased_intervals e
                         JOIN iot_service.iot_devices v ON v.site = e.site AND (e.device IS NULL OR v.device = e.device)
                         JOIN iot_service.series s USING (device_id)
                        WHERE s.series_id = w.series_id AND o.recorded_at >= e.from_at AND o.recorded_at < e.to_at)
     ORDER BY o.recorded_at DESC LIMIT 1) r
 ORDER BY w.series_id
ON CONFLICT (series_id) DO NOTHING
