-- The device's own columns say where it is now; patterns of use are derived anew from that day on.
WITH placed AS (
    INSERT INTO iot_service.device_placements (device_id, valid_from, location_id, position)
    VALUES (%(device_id)s, %(since)s, %(location_id)s, %(position)s)
    ON CONFLICT (device_id, valid_from) DO UPDATE
       SET location_id = excluded.location_id, position = excluded.position
    RETURNING device_id
), now_there AS (
    UPDATE iot_service.iot_devices d
       SET location = (SELECT zone FROM iot_service.zones WHERE location_id = %(location_id)s::int), position = %(position)s
      FROM placed
     WHERE d.device_id = placed.device_id
       AND NOT EXISTS (SELECT FROM iot_service.device_placements p
                        WHERE p.device_id = placed.device_id AND p.valid_from > %(since)s)
)
INSERT INTO iot_service.changed_days (site, visit_date)
SELECT DISTINCT %(site)s::text, r.reading_date
  FROM iot_service.rollup_site_day r
  JOIN iot_service.series s USING (series_id)
 WHERE s.device_id = %(device_id)s AND r.reading_date >= (%(since)s::timestamptz - interval '1 day')::date
 ORDER BY 2
-- A mark that is there is locked: else a derivation could take it before what it is set for is committed.
ON CONFLICT (site, visit_date) DO UPDATE SET site = excluded.site
