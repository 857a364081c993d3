"""Emulated sensors that speak the real wire bytes."""
