-- The column came after the table: by to_jsonb, a database of an earlier version can be asked, too.
SELECT to_jsonb(m)->>'flavour'
  FROM iot_service.schema_migrations m
 WHERE to_jsonb(m)->>'flavour' IS NOT NULL
 LIMIT 1
