"""Sensors on serial lines."""
