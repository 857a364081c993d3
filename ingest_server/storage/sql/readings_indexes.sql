-- Indexes of the partitioned table of readings; none where it is a hypertable, whose chunks make theirs as they come.
SELECT i.indexrelid::regclass::text, replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ')
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indrelid AND c.relkind = 'p'
 WHERE c.oid = 'iot_service.sensor_readings'::regclass
 ORDER BY 1
