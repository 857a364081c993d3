"""A guest in QEMU with the real bluetoothd and emulated controllers, for the slow tests."""
