"""Tests of emulated devices."""
