-- CREATEDB belongs to a role itself: its members do not have it.
SELECT rolcreatedb OR rolsuper, quote_ident(rolname) FROM pg_roles WHERE rolname = current_user
