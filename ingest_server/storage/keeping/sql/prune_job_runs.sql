DELETE FROM iot_service.job_runs r
 WHERE r.finished_at < now() - CASE WHEN r.ok THEN interval '7 days' ELSE interval '90 days' END
   AND EXISTS (SELECT FROM iot_service.job_runs newer WHERE newer.job = r.job AND newer.run_id > r.run_id)
