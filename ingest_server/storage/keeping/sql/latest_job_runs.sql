SELECT DISTINCT ON (job) job, server, started_at::text,
       extract(epoch FROM COALESCE(finished_at, clock_timestamp()) - started_at)::float8, ok, detail
  FROM iot_service.job_runs
 ORDER BY job, run_id DESC
