SELECT 'column' AS kind, format('%s.%s', c.relname, a.attname) AS name,
       format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
       || COALESCE(' default ' || pg_get_expr(d.adbin, d.adrelid), '') || a.attidentity::text || a.attgenerated::text
       AS definition
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relnamespace = 'iot_service'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
   AND c.relname !~ '_[0-9]{4}_[0-9]{2}$'
UNION ALL
SELECT 'constraint', format('%s.%s', c.relname, n.conname), pg_get_constraintdef(n.oid)
  FROM pg_constraint n
  JOIN pg_class c ON c.oid = n.conrelid
 WHERE c.relnamespace = 'iot_service'::regnamespace AND NOT c.relispartition AND n.contype <> 'n'
   AND c.relname !~ '_[0-9]{4}_[0-9]{2}$'
UNION ALL
SELECT 'index', i.relname, pg_get_indexdef(x.indexrelid)
  FROM pg_index x
  JOIN pg_class c ON c.oid = x.indrelid
  JOIN pg_class i ON i.oid = x.indexrelid
 WHERE c.relnamespace = 'iot_service'::regnamespace AND NOT c.relispartition AND c.relname !~ '_[0-9]{4}_[0-9]{2}$'
UNION ALL
SELECT 'view', c.relname, pg_get_viewdef(c.oid)
  FROM pg_class c WHERE c.relnamespace = 'iot_service'::regnamespace AND c.relkind = 'v'
UNION ALL
SELECT 'function', format('%s(%s)', p.proname, pg_get_function_identity_arguments(p.oid)), pg_get_functiondef(p.oid)
  FROM pg_proc p WHERE p.pronamespace = 'iot_service'::regnamespace AND p.prokind = 'f'
UNION ALL
SELECT 'trigger', format('%s.%s', c.relname, t.tgname), pg_get_triggerdef(t.oid)
  FROM pg_trigger t
  JOIN pg_class c ON c.oid = t.tgrelid
 WHERE c.relnamespace = 'iot_service'::regnamespace AND NOT t.tgisinternal AND NOT c.relispartition
