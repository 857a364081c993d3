-- One day of a site's zones, out of minutes; the rules are in docs/patterns.md.
WITH clock AS MATERIALIZED (
    -- By the wall clock: on a day with an hour twice both are of its slot.
    SELECT minute, hour,
           CASE WHEN hour >= %(evening)s::int THEN 'evening' WHEN hour >= %(afternoon)s::int THEN 'afternoon' ELSE 'morning' END AS time_slot
      FROM (SELECT minute, extract(hour FROM minute AT TIME ZONE %(zone)s)::int AS hour
              FROM generate_series(%(from_at)s::timestamptz,
                                   LEAST(%(to_at)s::timestamptz - interval '1 microsecond', %(now)s::timestamptz), '1 minute') AS minute) m
     WHERE hour >= %(morning)s::int AND hour < %(end)s::int
), slots AS MATERIALIZED (
    SELECT time_slot, min(minute) AS from_at, max(minute) + interval '1 minute' AS to_at, count(*) AS minutes
      FROM clock GROUP BY time_slot
), placed AS MATERIALIZED (
    SELECT l.location_id, s.series_id, s.quantity, s.unit, iot_service.is_presence(s.quantity) AS sees, l.valid_from, l.valid_to
      FROM iot_service.device_locations l
      JOIN iot_service.series s USING (device_id)
     WHERE l.site = %(site)s AND l.valid_from < %(to_at)s::timestamptz AND l.valid_to > %(from_at)s::timestamptz
       -- Of the device itself, not of its room.
       AND NOT iot_service.is_of_device(s.quantity)
), watched AS MATERIALIZED (
    -- Zones and slots of which a presence sensor could tell: it hung there, and gave a sign of life that day.
    SELECT DISTINCT p.location_id, w.time_slot, w.minutes
      FROM placed p
      JOIN slots w ON date_bin('1 minute', GREATEST(p.valid_from, w.from_at) + interval '59.999999 seconds', 'epoch')
                      < LEAST(p.valid_to, w.to_at)
     WHERE p.sees
       AND EXISTS (SELECT FROM iot_service.rollup_1m r
                    WHERE r.series_id = p.series_id
                      AND r.bucket >= %(from_at)s::timestamptz AND r.bucket < %(to_at)s::timestamptz)
), heard AS MATERIALIZED (
    -- Each minute with readings, and until when its last value holds.
    SELECT p.location_id, p.quantity, p.unit, p.sees, r.bucket, r.average, r.maximum, r.last,
           LEAST(r.next, r.bucket + interval '16 minutes', p.valid_to, %(to_at)s::timestamptz) - interval '1 microsecond' AS holds_until
      FROM placed p
     CROSS JOIN LATERAL (
        SELECT m.bucket, m.total / m.readings AS average, m.maximum, m.last, lead(m.bucket) OVER (ORDER BY m.bucket) AS next
          FROM iot_service.rollup_1m m
         WHERE m.series_id = p.series_id AND m.bucket >= %(from_at)s::timestamptz AND m.bucket < %(to_at)s::timestamptz) r
     WHERE r.bucket >= p.valid_from AND r.bucket < p.valid_to
       AND p.location_id IN (SELECT location_id FROM watched)
), seen AS (
    SELECT location_id, bucket AS minute, quantity FROM heard WHERE sees AND maximum > 0
    UNION ALL
    SELECT h.location_id, held, h.quantity
      FROM heard h CROSS JOIN LATERAL generate_series(h.bucket + interval '1 minute', h.holds_until, '1 minute') AS held
     WHERE h.sees AND h.last > 0
), present AS MATERIALIZED (
    SELECT s.location_id, c.time_slot, s.minute, c.hour, bool_or(s.quantity IN ('motion', 'moving')) AS moves
      FROM seen s JOIN clock c USING (minute)
     GROUP BY s.location_id, c.time_slot, s.minute, c.hour
), visits AS (
    SELECT location_id, time_slot, extract(epoch FROM max(minute) - min(minute))::int / 60 + 1 AS minutes
      FROM (SELECT location_id, time_slot, minute,
                   count(*) FILTER (WHERE begins) OVER (PARTITION BY location_id, time_slot ORDER BY minute) AS visit
              FROM (SELECT location_id, time_slot, minute,
                           COALESCE(minute - lag(minute) OVER (PARTITION BY location_id, time_slot ORDER BY minute) > interval '5 minutes',
                                    true) AS begins
                      FROM present) b) v
     GROUP BY location_id, time_slot, visit
), lengths AS (
    SELECT location_id, time_slot, count(*) AS visits, max(minutes) AS longest, avg(minutes) AS average
      FROM visits GROUP BY location_id, time_slot
), dwelt AS (
    SELECT location_id, time_slot, count(*) AS minutes, count(*) FILTER (WHERE moves) AS moving
      FROM present GROUP BY location_id, time_slot
), peaks AS (
    SELECT DISTINCT ON (location_id, time_slot) location_id, time_slot, hour
      FROM (SELECT location_id, time_slot, hour, count(*) AS minutes FROM present GROUP BY 1, 2, 3) h
     ORDER BY location_id, time_slot, minutes DESC, hour
), felt AS (
    -- What most minutes have, where a zone measures a quantity in two units.
    SELECT DISTINCT ON (location_id, time_slot, quantity) location_id, time_slot, quantity, unit, average
      FROM (SELECT v.location_id, p.time_slot, v.quantity, v.unit, avg(v.value) AS average, count(*) AS minutes
              FROM (SELECT location_id, bucket AS minute, quantity, unit, average AS value FROM heard WHERE NOT sees
                    UNION ALL
                    SELECT h.location_id, held, h.quantity, h.unit, h.last
                      FROM heard h CROSS JOIN LATERAL generate_series(h.bucket + interval '1 minute', h.holds_until, '1 minute') AS held
                     WHERE NOT h.sees) v
              JOIN present p USING (location_id, minute)
             GROUP BY v.location_id, p.time_slot, v.quantity, v.unit) f
     ORDER BY location_id, time_slot, quantity, minutes DESC, unit
), conditions AS (
    SELECT location_id, time_slot,
           jsonb_object_agg(quantity, jsonb_build_object('avg', round(average::numeric, 2), 'unit', unit)) AS averages,
           -- The worst of them decides. Temperature (offices), humidity, CO2 (above 400 ppm outdoors): categories I to IV of
           -- EN 16798-1:2019, annex B; 5,000 ppm: the limit of workplaces. Noise: docs/patterns.md.
           min(CASE
                 WHEN quantity = 'temperature' AND unit = '°C' THEN
                      CASE WHEN average BETWEEN 21 AND 25.5 THEN 5 WHEN average BETWEEN 20 AND 26 THEN 4
                           WHEN average BETWEEN 19 AND 27 THEN 3 WHEN average BETWEEN 18 AND 28 THEN 2 ELSE 1 END
                 WHEN quantity = 'humidity' AND unit = '%%' THEN
                      CASE WHEN average BETWEEN 30 AND 50 THEN 5 WHEN average BETWEEN 25 AND 60 THEN 4
                           WHEN average BETWEEN 20 AND 70 THEN 3 ELSE 2 END
                 WHEN quantity = 'co2' AND unit = 'ppm' THEN
                      CASE WHEN average <= 950 THEN 5 WHEN average <= 1200 THEN 4 WHEN average <= 1750 THEN 3
                           WHEN average <= 5000 THEN 2 ELSE 1 END
                 WHEN quantity IN ('noise', 'sound_level') AND unit IN ('dB', 'dBA', 'dB(A)') THEN
                      CASE WHEN average <= 45 THEN 5 WHEN average <= 55 THEN 4 WHEN average <= 70 THEN 3
                           WHEN average <= 80 THEN 2 ELSE 1 END
               END) AS comfort
      FROM felt GROUP BY location_id, time_slot
), computed AS MATERIALIZED (
    SELECT w.location_id, w.time_slot, COALESCE(d.minutes, 0) AS dwell, COALESCE(l.visits, 0) AS visits,
           CASE WHEN d.minutes IS NULL THEN 'none' WHEN l.longest < 2 THEN 'passing'
                WHEN 2 * d.moving > d.minutes THEN 'moving' ELSE 'staying' END AS movement,
           jsonb_build_object('longest_visit_minutes', COALESCE(l.longest, 0),
                              'average_visit_minutes', round(COALESCE(l.average, 0), 2),
                              'peak_hour', k.hour,
                              'share_of_slot_present', round(COALESCE(d.minutes, 0)::numeric / w.minutes, 4)) AS indicators,
           c.comfort, COALESCE(c.averages, '{}') AS averages
      FROM watched w
      LEFT JOIN dwelt d USING (location_id, time_slot)
      LEFT JOIN lengths l USING (location_id, time_slot)
      LEFT JOIN peaks k USING (location_id, time_slot)
      LEFT JOIN conditions c USING (location_id, time_slot)
), gone AS (
    DELETE FROM iot_service.user_behavior_patterns p
     USING iot_service.zones z
     WHERE z.location_id = p.location_id AND z.site = %(site)s AND p.visit_date = %(visit_date)s AND p.user_id IS NULL
       AND NOT EXISTS (SELECT FROM computed c WHERE c.location_id = p.location_id AND c.time_slot = p.time_slot)
)
INSERT INTO iot_service.user_behavior_patterns AS p
       (location_id, visit_date, time_slot, dwell_time_minutes, interaction_points, movement_pattern,
        preference_indicators, comfort_level, environmental_preferences)
SELECT location_id, %(visit_date)s, time_slot, dwell, visits, movement, indicators, comfort, averages
  FROM computed ORDER BY location_id, time_slot
ON CONFLICT (location_id, visit_date, time_slot) WHERE user_id IS NULL DO UPDATE
   SET dwell_time_minutes = excluded.dwell_time_minutes, interaction_points = excluded.interaction_points,
       movement_pattern = excluded.movement_pattern, preference_indicators = excluded.preference_indicators,
       comfort_level = excluded.comfort_level, environmental_preferences = excluded.environmental_preferences,
       computed_at = now()
 WHERE (p.dwell_time_minutes, p.interaction_points, p.movement_pattern, p.preference_indicators, p.comfort_level,
        p.environmental_preferences)
       IS DISTINCT FROM (excluded.dwell_time_minutes, excluded.interaction_points, excluded.movement_pattern,
                         excluded.preference_indicators, excluded.comfort_level, excluded.environmental_preferences)
