SELECT (SELECT count(*) FROM iot_service.rollup_log),
       (SELECT COALESCE(array_agg(job ORDER BY job), '{}')
          FROM (SELECT DISTINCT ON (job) job, ok FROM iot_service.job_runs ORDER BY job, run_id DESC) r
         WHERE ok = false)
