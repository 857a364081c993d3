"""What can go wrong at a device; the class tells the caller what to do."""


class DriverError(Exception):
    """Any fault of a device or its line."""


class LinkLost(DriverError):
    """The line itself is gone (unplugged, hung up, radio silent): reopen it with backoff."""


class DeviceTimeout(DriverError):
    """The device did not answer in time: skip this reading and count it."""


class ProtocolError(DriverError):
    """Bytes that are not a valid frame: drop the frame and go on with the next."""
