-- Columns that number their rows, each with its sequence.
SELECT c.relname, a.attname, pg_get_serial_sequence(format('%I.%I', 'iot_service', c.relname), a.attname)
  FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid
 WHERE c.relnamespace = to_regnamespace('iot_service') AND c.relkind IN ('r', 'p') AND a.attidentity <> ''
 ORDER BY 1, 2
