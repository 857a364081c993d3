-- In one order: two servers that start together must not wait for each other in a circle.
WITH known AS (
    SELECT * FROM unnest(%(profiles)s::text[], %(channels)s::text[], %(accuracies)s::text[], %(minima)s::float8[], %(maxima)s::float8[],
                         %(quantities)s::text[], %(units)s::text[], %(scales)s::float8[], %(offsets)s::float8[], %(sources)s::text[])
                  AS k (profile, channel, accuracy, minimum, maximum, quantity, unit, scale, "offset", source)
), forgotten AS (
    DELETE FROM iot_service.profile_channels c
     WHERE NOT EXISTS (SELECT FROM known k WHERE k.profile = c.profile AND k.channel = c.channel)
       AND NOT EXISTS (SELECT FROM iot_service.series_profiles p WHERE p.profile = c.profile)
)
INSERT INTO iot_service.profile_channels AS c
       (profile, channel, accuracy, minimum, maximum, quantity, unit, scale, "offset", source)
SELECT profile, channel, accuracy, minimum, maximum, quantity, unit, scale, "offset", source FROM known ORDER BY profile, channel
ON CONFLICT (profile, channel) DO UPDATE
   SET accuracy = excluded.accuracy, minimum = excluded.minimum, maximum = excluded.maximum, quantity = excluded.quantity,
       unit = excluded.unit, scale = excluded.scale, "offset" = excluded."offset", source = excluded.source
 WHERE (c.accuracy, c.minimum, c.maximum, c.quantity, c.unit, c.scale, c."offset", c.source)
       IS DISTINCT FROM (excluded.accuracy, excluded.minimum, excluded.maximum, excluded.quantity, excluded.unit,
                         excluded.scale, excluded."offset", excluded.source)
