-- Why a scope names nothing; no row where it names something.
SELECT why
  FROM (SELECT 1 AS rank, 'no site is called ' || %(site)s::text || '; see `heal7-iot sites list`' AS why
         WHERE NOT EXISTS (SELECT FROM iot_service.iot_devices WHERE site = %(site)s)
        UNION ALL
        SELECT 2, 'no device ' || %(device)s::text || ' at site ' || %(site)s::text || '; see `heal7-iot devices list`'
         WHERE %(device)s::text IS NOT NULL
           AND NOT EXISTS (SELECT FROM iot_service.iot_devices WHERE site = %(site)s AND device = %(device)s)
        UNION ALL
        SELECT 3, 'no zone ' || %(zone)s::text || ' at site ' || %(site)s::text || '; see `heal7-iot zones list`'
         WHERE %(zone)s::text IS NOT NULL
           AND NOT EXISTS (SELECT FROM iot_service.zones WHERE site = %(site)s AND zone = %(zone)s)
        UNION ALL
        SELECT 4, 'no device was in zone ' || %(zone)s::text || ' of ' || %(site)s::text || ' then'
         WHERE %(zone)s::text IS NOT NULL
           AND NOT EXISTS (SELECT FROM iot_service.device_locations
                            WHERE site = %(site)s AND zone = %(zone)s
                              AND valid_from < %(to_at)s::timestamptz AND valid_to > %(from_at)s::timestamptz)) f
 ORDER BY rank LIMIT 1
