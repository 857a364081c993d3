-- Whether this role owns the schema, whether it is one that grants, and whether it knows what it looks like.
SELECT pg_has_role(current_user, c.relowner, 'USAGE'), to_regproc('iot_service.grant_roles') IS NOT NULL,
       EXISTS (SELECT FROM iot_service.schema_objects)
  FROM pg_class c WHERE c.oid = 'iot_service.sensor_readings'::regclass
