-- What is registered of the given series, whose device it is, and which transaction wrote it.
SELECT w.n - 1, s.series_id, d.home_gateway_id, s.xmin::text
  FROM unnest(%(sites)s::text[], %(devices)s::text[], %(channels)s::text[], %(quantities)s::text[], %(units)s::text[],
              %(profiles)s::text[], %(firmwares)s::text[])
       WITH ORDINALITY AS w (site, device, channel, quantity, unit, profile, firmware, n)
  JOIN iot_service.iot_devices d USING (site, device)
  JOIN iot_service.series s USING (device_id, channel, quantity, unit)
  JOIN iot_service.series_profiles p USING (series_id, profile, firmware)
