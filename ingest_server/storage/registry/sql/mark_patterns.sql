-- Days by the calendar that was: by another one their readings may be of other days.
INSERT INTO iot_service.changed_days (site, visit_date)
SELECT DISTINCT z.site, p.visit_date
  FROM iot_service.user_behavior_patterns p
  JOIN iot_service.zones z USING (location_id)
 WHERE z.site = %(site)s AND p.user_id IS NULL
 ORDER BY 1, 2
ON CONFLICT (site, visit_date) DO UPDATE SET site = excluded.site
