"""Sensors that advertise over Bluetooth Low Energy."""
