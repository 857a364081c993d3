"""Tests of the front door: the command line, the embedded servers, the demonstration."""
