-- Databases whose names begin as those of verifications do: bytes (null: this role may not look), whether somebody works
-- in one or with one (its maker's session bears its name), whether this role may drop it.
SELECT d.datname,
       CASE WHEN has_database_privilege(d.oid, 'CONNECT') THEN pg_database_size(d.oid) END,
       EXISTS (SELECT FROM pg_stat_activity a
                -- Autovacuum, which works in every database, is nobody.
                WHERE a.usesysid IS NOT NULL AND (a.datid = d.oid OR a.application_name = d.datname)),
       pg_has_role(d.datdba, 'USAGE')
  FROM pg_database d
 WHERE starts_with(d.datname, %(prefix)s)
 ORDER BY d.datname
