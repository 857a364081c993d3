"""Tests of the firmware profiles and of how one is chosen."""
