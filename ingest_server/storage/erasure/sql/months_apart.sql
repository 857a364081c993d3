-- Months that have left the table of readings, with those that are on their way out: schema, table, columns, rows (estimate).
SELECT n.nspname, c.relname,
       (SELECT array_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')::text[],
       GREATEST(c.reltuples, 0)::bigint
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname IN ('archive', 'iot_service') AND c.relkind = 'r'
   AND (NOT c.relispartition OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND i.inhdetachpending))
   AND c.relname ~ '^(sensor_readings|rollup_1m)_[0-9]{4}_[0-9]{2}$'
   -- Somebody else's table of that name is none of ours.
   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'series_id' AND NOT a.attisdropped)
 ORDER BY c.relname
