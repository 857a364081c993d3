"""Tests of codecs, transports and drivers."""
