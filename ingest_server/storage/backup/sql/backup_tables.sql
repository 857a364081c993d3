-- Tables and views of the schema, partitions aside: kind, columns that are written and not computed, an estimate of rows.
SELECT c.relname, c.relkind::text,
       (SELECT array_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '')::text[],
       (SELECT COALESCE(sum(GREATEST(p.reltuples, 0)), 0)::bigint FROM pg_class p
         -- A partitioned table's own estimate is that of its partitions once more.
         WHERE (p.oid = c.oid AND c.relkind <> 'p') OR p.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = c.oid))
  FROM pg_class c
 WHERE c.relnamespace = to_regnamespace('iot_service') AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
 ORDER BY c.relname
