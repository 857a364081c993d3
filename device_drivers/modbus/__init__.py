"""Modbus RTU: any device whose registers a profile names."""
