-- Days of zones that an erasure touches: derived anew where their readings are still there, gone for good where not.
-- Those that name a user are the platform's own.
WITH spans AS (
    SELECT DISTINCT l.location_id, l.site, e.time_zone, GREATEST(e.from_at, l.valid_from) AS from_at,
           LEAST(e.to_at, l.valid_to) AS to_at
      FROM iot_service.erased_series e
      JOIN iot_service.device_locations l USING (device_id)
     WHERE e.erasure_id = %(erasure_id)s AND l.valid_from < e.to_at AND l.valid_to > e.from_at
), gone AS (
    DELETE FROM iot_service.user_behavior_patterns p USING spans s
     WHERE p.location_id = s.location_id AND p.user_id IS NULL
       AND p.visit_date >= (s.from_at AT TIME ZONE s.time_zone)::date
       AND p.visit_date <= ((s.to_at - interval '1 microsecond') AT TIME ZONE s.time_zone)::date
    RETURNING s.site, p.visit_date
)
INSERT INTO iot_service.changed_days (site, visit_date)
SELECT DISTINCT site, visit_date FROM gone ORDER BY site, visit_date
ON CONFLICT (site, visit_date) DO UPDATE SET site = excluded.site
