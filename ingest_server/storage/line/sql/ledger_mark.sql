SELECT i.ledger_id::text, pg_relation_filenode('iot_service.series')::bigint, i.xmin::text,
       (SELECT s.xmin::text FROM iot_service.series s WHERE s.series_id = %(series_id)s::int)
  FROM iot_service.ledger_identity i
