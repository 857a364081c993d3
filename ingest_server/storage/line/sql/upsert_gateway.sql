WITH made AS (
    INSERT INTO iot_service.gateways (name) VALUES (%(name)s) ON CONFLICT (name) DO NOTHING RETURNING gateway_id
)
SELECT gateway_id FROM made UNION ALL SELECT gateway_id FROM iot_service.gateways WHERE name = %(name)s LIMIT 1
