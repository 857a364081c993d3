SELECT job, server, started_at::text,
       extract(epoch FROM COALESCE(finished_at, clock_timestamp()) - started_at)::float8, ok, detail
  FROM iot_service.job_runs
 WHERE job = %(job)s
 ORDER BY run_id DESC
 LIMIT %(limit)s
