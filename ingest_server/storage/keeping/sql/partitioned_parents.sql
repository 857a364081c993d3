SELECT oid::regclass::text FROM pg_class
 WHERE relnamespace = 'iot_service'::regnamespace AND relkind = 'p'
 ORDER BY 1
