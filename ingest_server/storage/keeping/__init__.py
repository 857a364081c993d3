"""What keeps the tables in order without a hand: rollups, months, patterns, the record of jobs."""
