-- All that was loaded has its rollups to be computed: an entry for each series and month.
INSERT INTO iot_service.rollup_log (from_at, to_at, series_ids)
SELECT min(recorded_at), max(recorded_at) + interval '1 microsecond', ARRAY[series_id]
  FROM iot_service.sensor_readings
 GROUP BY series_id, date_trunc('month', recorded_at, 'UTC')
