"""Finding frames in a stream of bytes, which may begin anywhere and be damaged. What a frame says is the codec's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Framing:
    """Frames that begin with a header and say, by then or a little later, how long they are.

    head_bytes: as many as `length` needs, the header among them. length: bytes of the whole frame by its head; None
    where no frame begins so. sound: whether a whole frame's end and checksum are right.
    """

    header: bytes
    head_bytes: int
    length: Callable[[bytes], int | None]
    sound: Callable[[bytes], bool]

    @classmethod
    def fixed(cls, header: bytes, length: int, sound: Callable[[bytes], bool]) -> "Framing":
        """Of frames that are all of one length."""
        return cls(header, len(header), lambda _: length, sound)


class Finder(Protocol):
    """Finds frames in what comes. Never raises."""

    skipped_bytes: int
    bad_checksums: int

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes, oldest first."""


class FrameFinder:
    """A `Finder` by a framing."""

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self.skipped_bytes = 0
        """Bytes that belong to no valid frame; some are normal after opening, which may fall into a frame."""
        self.bad_checksums = 0
        """Places that looked like a frame and were none."""
        # Holds less than a frame between calls: all that precedes a possible frame is skipped.
        self._pending = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes, oldest first."""
        framing, buffer = self._framing, self._pending + data
        frames: list[bytes] = []
        position = 0
        while (start := buffer.find(framing.header, position)) >= 0 and start + framing.head_bytes <= len(buffer):
            length = framing.length(buffer[start : start + framing.head_bytes])
            if length is not None and start + length > len(buffer):
                break
            self.skipped_bytes += start - position
            frame = b"" if length is None else buffer[start : start + length]
            if frame and framing.sound(frame):
                frames.append(frame)
                position = start + len(frame)
            else:
                # Not the whole frame: when noise cut it short, a sound one begins within it.
                self.bad_checksums += 1
                self.skipped_bytes += 1
                position = start + 1
        rest = start if start >= 0 else len(buffer) - self._begun_header(buffer, position)
        self.skipped_bytes += rest - position
        self._pending = buffer[rest:]
        return frames

    def _begun_header(self, buffer: bytes, position: int) -> int:
        """How many bytes at the end of `buffer`, at or after `position`, may be the beginning of a header."""
        header = self._framing.header
        for length in range(min(len(header) - 1, len(buffer) - position), 0, -1):
            if buffer.endswith(header[:length]):
                return length
        return 0
