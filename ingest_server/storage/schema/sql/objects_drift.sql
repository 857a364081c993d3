SELECT CASE WHEN n.name IS NULL THEN 'missing' WHEN o.name IS NULL THEN 'added' ELSE 'changed' END, kind, name
  FROM iot_service.schema_objects o
  FULL JOIN now n USING (kind, name)
 WHERE n.definition IS DISTINCT FROM o.definition
 ORDER BY 1, 2, 3
