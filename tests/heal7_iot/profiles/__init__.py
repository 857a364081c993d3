"""Tests of the commands on profiles."""
