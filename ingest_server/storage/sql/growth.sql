-- Bytes of this database, and how many more a day: the readings of the last week, at 200 bytes each (docs/performance.md:
-- 100 for the row and its index, and up to 165 for the rollups of a reading that has a minute of its own).
SELECT pg_database_size(current_database())::float8,
       COALESCE((SELECT sum(d.readings) / 7.0 FROM iot_service.rollup_1d d WHERE d.bucket >= now() - interval '7 days'), 0)::float8
       * 200
