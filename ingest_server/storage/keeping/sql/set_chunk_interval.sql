SELECT set_chunk_time_interval('iot_service.sensor_readings', %(chunk_days)s * interval '1 day')
  FROM timescaledb_information.dimensions
 WHERE hypertable_schema = 'iot_service' AND hypertable_name = 'sensor_readings'
   AND time_interval IS DISTINCT FROM %(chunk_days)s * interval '1 day'
