-- All rows, and how many of them a second transaction has written again: created_at is the transaction's time.
SELECT coalesce(sum(n), 0)::bigint AS rows, coalesce(sum(transactions - 1), 0)::bigint AS rows_twice
  FROM (SELECT count(*) AS n, count(DISTINCT created_at) AS transactions
          FROM iot_service.sensor_readings
         GROUP BY series_id, recorded_at) AS instants
