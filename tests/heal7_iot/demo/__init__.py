"""Tests of the demonstration, its model and its end."""
