-- Whole minutes, each series' ranges merged: none is read twice. Also over the minutes between two that changed, up to a
-- quarter of an hour: computed again they come to the same, and one look at a series' hour costs less than one at each
-- of its readings. Nothing before the horizon: its readings are gone, and an empty bucket would take the place of what
-- is known of it.
WITH ranges AS (
    SELECT series_id, range_agg(tstzrange(from_at, to_at + interval '15 minutes')) AS spans
      FROM (SELECT DISTINCT unnest(series_ids) AS series_id, date_bin('1 minute', from_at, 'epoch') AS from_at,
                   date_bin('1 minute', to_at - interval '1 microsecond', 'epoch') + interval '1 minute' AS to_at
              FROM iot_service.rollup_log WHERE entry_id = ANY(%(entries)s::bigint[])) e
     GROUP BY series_id
)
INSERT INTO pg_temp.dirty (series_id, from_at, to_at)
SELECT r.series_id, GREATEST(lower(span), h.begins), upper(span) - interval '15 minutes'
  FROM iot_service.raw_horizon h, ranges r, unnest(r.spans) AS span
 WHERE upper(span) - interval '15 minutes' > h.begins
