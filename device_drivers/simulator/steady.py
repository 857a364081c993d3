"""Emulated PMS5003s that send by themselves, for a program in another process: no event loop is needed here."""

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from device_drivers.serial_line.plantower import Frame
from device_drivers.simulator.plantower import FIRMWARE, EmulatedPms5003


def counted(number: int) -> Frame:
    """A frame that tells its number (up to 50,000 * 65,536), so that two that were read in one moment are still two."""
    high, low = divmod(number, 50_000)
    return Frame(pm1=high, particles_0_3=low, version=FIRMWARE)


class SteadySensors:
    """All send the same frame, so many times a second, from the start until closed; `pause` holds them.

    directory: where the links are made. frame: the n-th, from 1 on.
    """

    def __init__(
        self, directory: Path, serials: Iterable[str], frames_per_s: float, frame: Callable[[int], Frame] = counted
    ) -> None:
        self.sensors = [EmulatedPms5003(directory, serial) for serial in serials]
        self.sent = 0
        """Frames of each sensor."""
        self._frame = frame
        self._pause_s = 1 / frames_per_s
        self._running = threading.Event()
        self._running.set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sensors", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._pause_s):
            if self._running.is_set():
                self.sent += 1
                frame = self._frame(self.sent)
                for sensor in self.sensors:
                    sensor.send(frame)

    def pause(self) -> None:
        self._running.clear()
        # The frame that was on its way when this was called.
        time.sleep(2 * self._pause_s)

    def resume(self) -> None:
        self._running.set()

    @property
    def closed(self) -> bool:
        return self._stop.is_set()

    def close(self) -> None:
        """The last frame has been sent; may be called again."""
        self._stop.set()
        self._thread.join()
        for sensor in self.sensors:
            sensor.close()
