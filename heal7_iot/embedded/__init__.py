"""Servers that pip brings, for the demo, the benchmark and the tests; never for production."""
