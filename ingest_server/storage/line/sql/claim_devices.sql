-- New devices get the claiming gateway as their home.
INSERT INTO iot_service.iot_devices (site, device, home_gateway_id, manufacturer, model, firmware_version)
SELECT * FROM unnest(%(sites)s::text[], %(devices)s::text[], %(homes)s::int[], %(manufacturers)s::text[], %(models)s::text[], %(firmwares)s::text[])
 ORDER BY 1, 2
ON CONFLICT (site, device) DO NOTHING
