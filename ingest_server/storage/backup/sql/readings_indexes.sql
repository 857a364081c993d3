-- Indexes of the table of readings: name, definition, the part of it from USING on, whether each partition has its own.
SELECT i.indexrelid::regclass::text, replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON '),
       substring(pg_get_indexdef(i.indexrelid) FROM 'USING .*$'), c.relkind = 'p'
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indrelid
 WHERE c.oid = 'iot_service.sensor_readings'::regclass
 ORDER BY 1
