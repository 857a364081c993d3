-- What a manifest says of the database itself.
SELECT i.ledger_id::text, (SELECT max(version) FROM iot_service.schema_migrations), current_setting('server_version'),
       to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
  FROM iot_service.ledger_identity i
