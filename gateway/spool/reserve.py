"""A file that does nothing but take up room, for the moment when there is none.

Invariant (6, second half): recording a drop succeeds at zero free bytes.
"""

import contextlib
import os
from pathlib import Path


class Reserve:
    """`size` bytes beside the spool, really allocated, given back when the disk is full; 0: there is none."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    @property
    def held(self) -> bool:
        """Whether the room is set aside."""
        if not self._size:
            return True
        try:
            return self._path.stat().st_size >= self._size
        except FileNotFoundError:
            return False

    def room(self) -> bool:
        """Whether the disk has twice the reserve to spare."""
        try:
            free = os.statvfs(self._path.parent)
        except OSError:
            return False
        return free.f_bavail * free.f_frsize >= 2 * self._size

    def release(self) -> bool:
        """Gives the room back; False where there was none."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def make(self) -> bool:
        """Sets the room aside again, but only where as much again stays free: it must not cause what it is for."""
        if self.held:
            return True
        if not self.room():
            return False
        descriptor = -1
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            # A sparse file would promise room that somebody else can take.
            os.posix_fallocate(descriptor, 0, self._size)
        except OSError:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
            return False
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return True
