-- Of the roles that exist: what a member could not do that it is for.
SELECT w.role, w.privilege, w.relation
  FROM (VALUES ('iot_ingest', 'INSERT', 'sensor_readings'), ('iot_ingest', 'SELECT', 'ledger'),
               ('iot_ingest', 'UPDATE', 'ledger'), ('iot_ingest', 'INSERT', 'rollup_log'),
               ('iot_ingest', 'INSERT', 'quarantine'), ('iot_ingest', 'INSERT', 'job_runs'),
               ('iot_reader', 'SELECT', 'readings'), ('iot_reader', 'SELECT', 'hourly_sensor_averages'),
               ('iot_reader', 'SELECT', 'fact_sensor_daily'), ('iot_reader', 'SELECT', 'latest_readings'),
               ('iot_admin', 'DELETE', 'sensor_readings')) AS w (role, privilege, relation)
  JOIN pg_roles r ON r.rolname = w.role
 WHERE NOT has_table_privilege(r.oid, format('iot_service.%I', w.relation)::regclass, w.privilege)
    OR NOT has_schema_privilege(r.oid, 'iot_service', 'USAGE')
 ORDER BY 1, 2, 3
