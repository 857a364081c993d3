-- What is registered of the given series, whose device it is, and which transaction wrote it.
-- One lookup after the other (OFFSET 0 keeps the planner from joining in another order): a fleet's sensors measure the
-- same, so that channel, quantity and unit find all of them, while statistics say that they find next to none.
SELECT w.n - 1, s.series_id, d.home_gateway_id, s.written
  FROM unnest(%(sites)s::text[], %(devices)s::text[], %(channels)s::text[], %(quantities)s::text[], %(units)s::text[],
              %(profiles)s::text[], %(firmwares)s::text[])
       WITH ORDINALITY AS w (site, device, channel, quantity, unit, profile, firmware, n)
 CROSS JOIN LATERAL (SELECT o.device_id, o.home_gateway_id FROM iot_service.iot_devices o
                      WHERE o.site = w.site AND o.device = w.device OFFSET 0) d
 CROSS JOIN LATERAL (SELECT o.series_id, o.xmin::text AS written FROM iot_service.series o
                      WHERE o.device_id = d.device_id AND o.channel = w.channel AND o.quantity = w.quantity
                        AND o.unit = w.unit OFFSET 0) s
 CROSS JOIN LATERAL (SELECT FROM iot_service.series_profiles o
                      WHERE o.series_id = s.series_id AND o.profile = w.profile AND o.firmware = w.firmware OFFSET 0) p
