-- Numbers that were given out, and shall not be given out again.
SELECT c.relname, a.attname, s.last_value
  FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_depend d ON d.refobjid = c.oid AND d.refobjsubid = a.attnum AND d.deptype = 'i'
                  AND d.refclassid = 'pg_class'::regclass AND d.classid = 'pg_class'::regclass
  JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S'
  JOIN pg_sequences s ON s.schemaname = 'iot_service' AND s.sequencename = q.relname
 WHERE c.relnamespace = to_regnamespace('iot_service') AND a.attidentity <> ''
 ORDER BY 1, 2
