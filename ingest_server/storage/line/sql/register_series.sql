-- Makes what is missing of the given series and of their profiles; a device's firmware is what it spoke last.
WITH wanted AS (
    SELECT * FROM unnest(%(device_ids)s::int[], %(channels)s::text[], %(quantities)s::text[], %(units)s::text[],
                         %(profiles)s::text[], %(firmwares)s::text[])
                  AS w (device_id, channel, quantity, unit, profile, firmware)
), made AS (
    INSERT INTO iot_service.series (device_id, channel, quantity, unit)
    SELECT DISTINCT device_id, channel, quantity, unit FROM wanted ORDER BY device_id, channel, quantity, unit
    ON CONFLICT (device_id, channel, quantity, unit) DO NOTHING
    RETURNING series_id, device_id, channel, quantity, unit
), found AS (
    SELECT * FROM made
    UNION
    SELECT s.series_id, s.device_id, s.channel, s.quantity, s.unit
      FROM iot_service.series s JOIN wanted USING (device_id, channel, quantity, unit)
), profiled AS (
    INSERT INTO iot_service.series_profiles (series_id, profile, firmware)
    SELECT DISTINCT f.series_id, w.profile, w.firmware
      FROM wanted w JOIN found f USING (device_id, channel, quantity, unit) ORDER BY f.series_id
    ON CONFLICT DO NOTHING
), spoken AS (
    UPDATE iot_service.iot_devices d SET firmware_version = w.firmware
      FROM (SELECT DISTINCT ON (device_id) device_id, firmware FROM wanted ORDER BY device_id) w
     WHERE d.device_id = w.device_id AND d.firmware_version IS DISTINCT FROM w.firmware
)
SELECT count(*) FROM found
