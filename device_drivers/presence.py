"""What can be told of a driver's line and devices without opening it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Named:
    """A device as the configuration names it; model and firmware empty where it states them itself."""

    device: str
    model: str
    firmware: str


@dataclass(frozen=True, slots=True)
class Presence:
    """line: where a driver would read; found: whether that is there now, None where it cannot be told.

    faults: what to put right, in sentences.
    """

    line: str
    found: bool | None
    faults: tuple[str, ...]
    devices: tuple[Named, ...]
