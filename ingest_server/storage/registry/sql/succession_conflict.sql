-- Why one device cannot follow the other; no row where it can.
SELECT why
  FROM (SELECT 'it is the same device' AS why WHERE %(old)s::int = %(new)s::int
        UNION ALL
        SELECT v.device || ' has already taken the place of ' || o.device
          FROM iot_service.device_successions s
          JOIN iot_service.iot_devices v USING (device_id)
          JOIN iot_service.iot_devices o ON o.device_id = s.predecessor_id
         WHERE s.predecessor_id = %(old)s::int AND s.device_id <> %(new)s::int
        UNION ALL
        SELECT 'it is itself among its predecessors'
          FROM iot_service.device_lineage WHERE device_id = %(old)s::int AND member_id = %(new)s::int
        UNION ALL
        SELECT 'the old one took over its place only later, at ' || s.replaced_at
          FROM iot_service.device_successions s
         WHERE s.device_id = %(old)s::int AND s.replaced_at >= %(at)s::timestamptz
        UNION ALL
        SELECT 'it was replaced itself before, at ' || s.replaced_at
          FROM iot_service.device_successions s
         WHERE s.predecessor_id = %(new)s::int AND s.replaced_at <= %(at)s::timestamptz) f
 LIMIT 1
