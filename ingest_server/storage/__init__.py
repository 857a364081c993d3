"""The database: everything that knows SQL."""
