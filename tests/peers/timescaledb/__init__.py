"""TimescaleDB for the tests: its WebAssembly build behind a gateway of our own that speaks PostgreSQL's protocol."""
