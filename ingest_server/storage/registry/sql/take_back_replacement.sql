-- What the same replacement had placed when it was said with another time; patterns of use are derived anew from then on.
WITH before AS (
    SELECT replaced_at FROM iot_service.device_successions
     WHERE device_id = %(new)s AND predecessor_id = %(old)s
), gone AS (
    DELETE FROM iot_service.device_placements p USING before b
     WHERE p.valid_from = b.replaced_at
       AND (p.device_id = %(new)s OR p.device_id = %(old)s AND p.location_id IS NULL)
    RETURNING p.device_id, p.valid_from
)
INSERT INTO iot_service.changed_days (site, visit_date)
SELECT DISTINCT %(site)s::text, r.reading_date
  FROM gone g
  JOIN iot_service.series s USING (device_id)
  JOIN iot_service.rollup_site_day r ON r.series_id = s.series_id
   AND r.reading_date >= (g.valid_from - interval '1 day')::date
 ORDER BY 2
ON CONFLICT (site, visit_date) DO UPDATE SET site = excluded.site
