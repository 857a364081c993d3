-- The schema is iot_admin's where whoever migrates may give it away: then any member of that role may migrate, archive,
-- erase, and the one that happened to be first is not needed. Else it stays as it is.
DO $$
DECLARE thing record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'iot_admin')
       OR NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
          AND NOT pg_has_role(current_user, 'iot_admin', 'USAGE') THEN
        RETURN;
    END IF;
    FOR thing IN
        SELECT CASE WHEN c.relkind = 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind,
               format('iot_service.%I', c.relname) AS name
          FROM pg_class c
         WHERE c.relnamespace = 'iot_service'::regnamespace AND c.relkind IN ('r', 'p', 'v')
           AND c.relowner <> 'iot_admin'::regrole
         ORDER BY c.oid
    LOOP
        EXECUTE format('ALTER %s %s OWNER TO iot_admin', thing.kind, thing.name);
    END LOOP;
    FOR thing IN
        SELECT p.oid::regprocedure::text AS name FROM pg_proc p
         WHERE p.pronamespace = 'iot_service'::regnamespace AND p.proowner <> 'iot_admin'::regrole
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO iot_admin', thing.name);
    END LOOP;
    ALTER SCHEMA iot_service OWNER TO iot_admin;
EXCEPTION
    WHEN insufficient_privilege THEN RAISE NOTICE 'the schema stays %''s: %', current_user, SQLERRM;
END $$;
