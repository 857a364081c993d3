"""Tests of what hangs on serial lines, against real pseudo-terminals."""
