-- Wherever the extension is: its functions are called without a schema.
SELECT set_config('search_path', quote_ident(n.nspname), true)
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
 WHERE e.extname = 'timescaledb'
