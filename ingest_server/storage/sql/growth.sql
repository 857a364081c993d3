-- Bytes of this database, and how many more a day: the readings of the last week, at what a reading takes here.
SELECT pg_database_size(current_database())::float8,
       COALESCE((SELECT sum(d.readings) / 7.0 FROM iot_service.rollup_1d d WHERE d.bucket >= now() - interval '7 days'), 0)::float8
       * 200,
       inet_server_addr() IS NULL,
       (SELECT setting FROM pg_settings WHERE name = 'data_directory')
