"""A PMS5003 without the sensor: real frames on a pseudo-terminal."""

from pathlib import Path

from device_drivers.serial_line.plantower import Frame, encode
from device_drivers.simulator.terminal import EmulatedLine

# A version byte that is seen in the field and that the profile in this project knows.
FIRMWARE = 0x97


class EmulatedPms5003(EmulatedLine):
    """See `EmulatedLine`."""

    def __init__(self, directory: Path, serial: str) -> None:
        super().__init__(directory, "PMS5003", serial)

    def send(self, what: Frame | bytes) -> int:
        """Sends a frame or any bytes and returns how many the line took."""
        return self.write(encode(what) if isinstance(what, Frame) else what)
