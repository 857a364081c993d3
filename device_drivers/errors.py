"""What can go wrong at a device; the class tells the caller what to do.

The caller of a line or a codec is its driver. Only LinkLost is meant to leave a driver; what else leaves it is treated
the same by who supervises it: the driver is left, and opened again with backoff.
"""


class DriverError(Exception):
    """Any fault of a device or its line."""


class LinkLost(DriverError):
    """The line itself is gone (unplugged, hung up, radio silent): reopen it with backoff."""


class DeviceTimeout(DriverError):
    """Nothing came in time: one that asks may ask again, one that only listens takes the line for lost."""


class ProtocolError(DriverError):
    """Bytes that are not a valid frame: drop the frame and go on with the next."""
