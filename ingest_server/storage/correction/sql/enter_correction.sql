INSERT INTO iot_service.corrections
       (device_id, kind, from_at, to_at, channel, unit, coefficients, was_profile, profile, channels, withdraws, made_by, reason)
VALUES (%(device_id)s, %(kind)s, %(from_at)s, %(to_at)s, %(channel)s, %(unit)s, %(coefficients)s::float8[], %(was_profile)s,
        %(profile)s, %(channels)s::jsonb, %(withdraws)s, %(by)s, %(why)s)
RETURNING number
