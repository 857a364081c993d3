"""Sensors that are read over Bluetooth GATT, by profile alone."""
