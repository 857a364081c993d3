-- The oldest entries, as many as the bounds let through, but one in any case; and whether there are others.
WITH oldest AS (
    SELECT entry_id, cardinality(series_ids) * EXTRACT(EPOCH FROM to_at - from_at) / 3600 AS series_hours
      FROM iot_service.rollup_log ORDER BY entry_id LIMIT %(most)s + 1
), counted AS (
    SELECT entry_id, row_number() OVER entries AS number, sum(series_hours) OVER entries - series_hours AS before
      FROM oldest
    WINDOW entries AS (ORDER BY entry_id ROWS UNBOUNDED PRECEDING)
)
SELECT COALESCE(array_agg(entry_id ORDER BY entry_id) FILTER (WHERE taken), '{}'), COALESCE(bool_or(NOT taken), false)
  FROM (SELECT entry_id, number <= %(most)s AND before < %(most_series_hours)s AS taken FROM counted) c
