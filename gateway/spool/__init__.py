"""The gateway's only store: sealed batches on disk until the database has them, and a while longer."""
