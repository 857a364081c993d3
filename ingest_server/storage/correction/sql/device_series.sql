-- Series of a device, with the profiles that gave their readings meaning and when each was first met, Unix µs.
SELECT s.series_id, s.channel, s.quantity, s.unit,
       COALESCE(array_agg(p.profile ORDER BY p.first_seen_at, p.profile) FILTER (WHERE p.profile IS NOT NULL), '{}'),
       COALESCE(array_agg((extract(epoch FROM p.first_seen_at) * 1000000)::bigint ORDER BY p.first_seen_at, p.profile)
                FILTER (WHERE p.profile IS NOT NULL), '{}')
  FROM iot_service.series s
  LEFT JOIN (SELECT series_id, profile, min(first_seen_at) AS first_seen_at
               FROM iot_service.series_profiles GROUP BY series_id, profile) p USING (series_id)
 WHERE s.device_id = %(device_id)s
 GROUP BY s.series_id ORDER BY s.channel, s.series_id
