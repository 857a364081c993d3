-- In one order: two servers that start together must not wait for each other in a circle.
WITH known AS (
    SELECT * FROM unnest(%(profiles)s::text[], %(channels)s::text[], %(accuracies)s::text[], %(minima)s::float8[], %(maxima)s::float8[])
                  AS k (profile, channel, accuracy, minimum, maximum)
), forgotten AS (
    DELETE FROM iot_service.profile_channels c
     WHERE NOT EXISTS (SELECT FROM known k WHERE k.profile = c.profile AND k.channel = c.channel)
       AND NOT EXISTS (SELECT FROM iot_service.series_profiles p WHERE p.profile = c.profile)
)
INSERT INTO iot_service.profile_channels AS c (profile, channel, accuracy, minimum, maximum)
SELECT profile, channel, accuracy, minimum, maximum FROM known ORDER BY profile, channel
ON CONFLICT (profile, channel) DO UPDATE
   SET accuracy = excluded.accuracy, minimum = excluded.minimum, maximum = excluded.maximum
 WHERE (c.accuracy, c.minimum, c.maximum) IS DISTINCT FROM (excluded.accuracy, excluded.minimum, excluded.maximum)
