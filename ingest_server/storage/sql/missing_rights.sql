-- Of the roles that exist, and of the one that asks (who shall run jobs): what a member could not do that it is for, and
-- the statement that mends it.
SELECT w.role, w.privilege, 'iot_service.' || w.relation,
       format('GRANT %s ON iot_service.%I TO %I', w.privilege, w.relation, w.role)
  FROM (VALUES ('iot_ingest', 'INSERT', 'sensor_readings'), ('iot_ingest', 'SELECT', 'ledger'),
               ('iot_ingest', 'UPDATE', 'ledger'), ('iot_ingest', 'INSERT', 'rollup_log'),
               ('iot_ingest', 'INSERT', 'quarantine'), ('iot_ingest', 'INSERT', 'job_runs'),
               ('iot_reader', 'SELECT', 'readings'), ('iot_reader', 'SELECT', 'hourly_sensor_averages'),
               ('iot_reader', 'SELECT', 'fact_sensor_daily'), ('iot_reader', 'SELECT', 'latest_readings'),
               ('iot_admin', 'DELETE', 'sensor_readings')) AS w (role, privilege, relation)
  JOIN pg_roles r ON r.rolname = w.role
 -- What is missing altogether is drift's to tell: to_regclass is null then.
 WHERE NOT has_table_privilege(r.oid, to_regclass(format('iot_service.%I', w.relation)), w.privilege)
UNION ALL
SELECT r.rolname::text, 'USAGE', 'schema iot_service', format('GRANT USAGE ON SCHEMA iot_service TO %I', r.rolname)
  FROM pg_roles r
 WHERE r.rolname IN ('iot_ingest', 'iot_reader', 'iot_admin')
   AND NOT has_schema_privilege(r.oid, 'iot_service', 'USAGE')
UNION ALL
-- Everybody has these, unless a platform took them from PUBLIC. Refreshes of rollups use temporary tables.
SELECT r.rolname::text, w.privilege, format('database %I', current_database()),
       format('GRANT %s ON DATABASE %I TO %I', w.privilege, current_database(), r.rolname)
  FROM (VALUES ('iot_ingest', 'CONNECT'), ('iot_reader', 'CONNECT'), ('iot_admin', 'CONNECT'),
               ('iot_ingest', 'TEMPORARY'), (current_user::text, 'TEMPORARY')) AS w (role, privilege)
  JOIN pg_roles r ON r.rolname = w.role
 WHERE NOT has_database_privilege(r.oid, current_database(), w.privilege)
 ORDER BY 1, 2, 3
