-- What a scope comes to: a device's time; a zone's devices while each was there; a whole site.
SELECT %(site)s::text AS site, %(device)s::text AS device, %(from_at)s::timestamptz AS from_at, %(to_at)s::timestamptz AS to_at
 WHERE %(zone)s::text IS NULL
UNION ALL
SELECT v.site, v.device, GREATEST(p.valid_from, %(from_at)s::timestamptz), LEAST(p.valid_to, %(to_at)s::timestamptz)
  FROM iot_service.device_locations p
  JOIN iot_service.iot_devices v USING (device_id)
 WHERE p.site = %(site)s AND p.zone = %(zone)s::text
   AND p.valid_from < %(to_at)s::timestamptz AND p.valid_to > %(from_at)s::timestamptz
