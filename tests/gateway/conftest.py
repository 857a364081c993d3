"""Fixtures of the gateway's tests."""

from tests.peers.mosquitto import mosquitto

__all__ = ["mosquitto"]
