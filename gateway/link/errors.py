"""What can be wrong with a batch; the class tells the server what to do (WIRE.md §4)."""


class WireError(Exception):
    """Bytes on the link that are not what WIRE.md says."""


class DamagedBatch(WireError):
    """Not whole, or not ours: count it, acknowledge to the broker, do not settle."""


class UnsupportedVersion(WireError):
    """Written by a version that we do not know: do not settle, tell the operator."""

    def __init__(self, version: int) -> None:
        super().__init__(f"wire version {version} is not supported (this end speaks 1)")
        self.version = version


class UnusableBatch(WireError):
    """Whole, but its content contradicts itself: quarantine and settle."""


class ControlError(WireError):
    """A status, receipt or server status that is not what WIRE.md says: count it and go on."""
