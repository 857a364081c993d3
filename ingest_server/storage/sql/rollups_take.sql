SELECT COALESCE(array_agg(entry_id), '{}')
  FROM (SELECT entry_id FROM iot_service.rollup_log ORDER BY entry_id LIMIT %(most)s) e
