-- Which minutes are a day's of the site's calendar: [from_at, to_at). No row where part of its readings is gone.
SELECT d.zone, d.from_at, d.to_at
  FROM (SELECT z.zone, %(visit_date)s::date::timestamp AT TIME ZONE z.zone AS from_at,
               (%(visit_date)s::date + 1)::timestamp AT TIME ZONE z.zone AS to_at
          FROM (SELECT COALESCE((SELECT time_zone FROM iot_service.sites WHERE site = %(site)s), 'UTC') AS zone) z) d
 WHERE d.from_at >= (SELECT begins FROM iot_service.raw_horizon)
