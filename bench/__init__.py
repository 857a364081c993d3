"""Benchmarks: they compare things in one run and print ratios; no test depends on them."""
