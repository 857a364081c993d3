CREATE TEMPORARY TABLE IF NOT EXISTS dirty (
    series_id integer NOT NULL,
    from_at   timestamptz NOT NULL,
    to_at     timestamptz NOT NULL
) ON COMMIT DELETE ROWS
