-- Months by their tables, whether attached, pending or detached: what an archiving left half done is found again.
SELECT c.relname
  FROM pg_class c
 WHERE c.relnamespace = to_regnamespace(%(schema)s) AND c.relkind = 'r'
   AND c.relname ~ '^(sensor_readings|rollup_1m)_[0-9]{4}_[0-9]{2}$'
 ORDER BY c.relname
