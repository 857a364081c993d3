-- Whether the server is on this machine, and where it keeps its data: null for a role that may not know.
SELECT inet_server_addr() IS NULL, (SELECT setting FROM pg_settings WHERE name = 'data_directory')
