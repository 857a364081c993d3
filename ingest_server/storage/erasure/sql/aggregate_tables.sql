-- Where TimescaleDB keeps the rows of a continuous aggregate.
SELECT view_name, materialization_hypertable_schema, materialization_hypertable_name
  FROM timescaledb_information.continuous_aggregates
 WHERE view_schema = 'iot_service'
