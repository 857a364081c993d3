-- Of the three roles those that the server does not have.
SELECT w.role FROM (VALUES ('iot_admin'), ('iot_ingest'), ('iot_reader')) AS w (role)
 WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = w.role)
 ORDER BY w.role
