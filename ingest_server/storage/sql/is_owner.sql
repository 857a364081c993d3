SELECT pg_has_role(current_user, c.relowner, 'USAGE'), current_user::text
  FROM pg_class c WHERE c.oid = 'iot_service.sensor_readings'::regclass
