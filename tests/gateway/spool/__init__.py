"""Tests of `gateway.spool`."""
