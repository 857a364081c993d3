"""Tests of the edge daemon."""
