"""Real peers for the tests: brokers, servers, lines."""
