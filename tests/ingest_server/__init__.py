"""The ingest server, on real databases and brokers."""
