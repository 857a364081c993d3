SELECT
  FROM timescaledb_information.jobs
 WHERE to_regclass(format('%%I.%%I', hypertable_schema, hypertable_name)) = %(relation)s::regclass
   AND proc_name = %(kind)s AND (config->>%(key)s)::interval = %(wanted)s::interval
