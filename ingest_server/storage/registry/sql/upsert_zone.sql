INSERT INTO iot_service.zones AS z (site, zone) VALUES (%(site)s, %(zone)s)
ON CONFLICT (site, zone) DO UPDATE SET zone = z.zone
RETURNING location_id
