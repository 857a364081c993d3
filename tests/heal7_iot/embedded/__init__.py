"""Tests of the servers that pip brings."""
