-- From a series' first day to its last, as the rollups have them.
INSERT INTO pg_temp.dirty (series_id, from_at, to_at)
SELECT s.series_id, GREATEST(r.from_at, h.begins), r.to_at
  FROM iot_service.raw_horizon h
 CROSS JOIN iot_service.iot_devices d
  JOIN iot_service.series s USING (device_id)
 CROSS JOIN LATERAL (SELECT min(bucket) AS from_at, max(bucket) + interval '1 day' AS to_at
                       FROM iot_service.rollup_1d WHERE series_id = s.series_id) r
 WHERE d.site = %(site)s AND r.to_at > h.begins
