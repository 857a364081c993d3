"""Tests of the Bluetooth LE driver and of what stands for the radio."""
