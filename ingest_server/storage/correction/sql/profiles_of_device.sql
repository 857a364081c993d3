SELECT p.profile FROM iot_service.series s JOIN iot_service.series_profiles p USING (series_id)
 WHERE s.device_id = %(device_id)s
 GROUP BY p.profile ORDER BY min(p.first_seen_at), p.profile
