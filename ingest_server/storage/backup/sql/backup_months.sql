-- Where readings may lie: the bounds of each partition, or of each chunk of a hypertable (its CHECK says the same).
SELECT pg_get_expr(c.relpartbound, c.oid), pg_get_constraintdef(k.oid)
  FROM pg_inherits i
  JOIN pg_class c ON c.oid = i.inhrelid
  LEFT JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'c' AND NOT c.relispartition
 WHERE i.inhparent = 'iot_service.sensor_readings'::regclass
