SELECT COALESCE(j.application_name, e.proc_name), count(*), (array_agg(e.err_message ORDER BY e.start_time DESC))[1]
  FROM timescaledb_information.job_errors e
  LEFT JOIN timescaledb_information.jobs j USING (job_id)
 WHERE e.start_time > now() - interval '1 day'
 GROUP BY 1
 ORDER BY 1
