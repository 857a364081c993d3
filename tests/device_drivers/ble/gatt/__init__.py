"""Tests of the driver for sensors that are read over GATT."""
