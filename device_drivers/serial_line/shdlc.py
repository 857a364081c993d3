"""Frames of Sensirion's SHDLC (SPS30 datasheet, version 1.0, section 4.1): `7E`, content, checksum, `7E`.

The content of a request is address, command, length, data; that of a reply address, command, state, length, data. The
checksum is the complement of the sum of the content's bytes. `7E`, `7D`, `11` and `13` within are sent as `7D` and the
byte with bit 5 inverted.
"""

from dataclasses import dataclass

DELIMITER = 0x7E
_ESCAPE = 0x7D
_ESCAPED = frozenset({0x7E, 0x7D, 0x11, 0x13})
_LONGEST = 2 * 261 + 2
"""A reply of 255 bytes of data, each of them escaped, and its delimiters."""


@dataclass(frozen=True, slots=True)
class Reply:
    """state: 0 where all is well; its highest bit: the device has an error of its own."""

    address: int
    command: int
    state: int
    data: bytes


def frame(content: bytes) -> bytes:
    """As it goes over the line."""
    whole = content + bytes([~sum(content) & 0xFF])
    stuffed = b"".join(bytes([_ESCAPE, byte ^ 0x20]) if byte in _ESCAPED else bytes([byte]) for byte in whole)
    return bytes([DELIMITER]) + stuffed + bytes([DELIMITER])


def request(address: int, command: int, data: bytes = b"") -> bytes:
    return frame(bytes([address, command, len(data)]) + data)


def reply(address: int, command: int, state: int, data: bytes = b"") -> bytes:
    """What a device answers."""
    return frame(bytes([address, command, state, len(data)]) + data)


def parse(whole: bytes) -> Reply:
    """Of a frame that `ReplyFinder` found."""
    content = _unstuffed(whole[1:-1])
    return Reply(content[0], content[1], content[2], content[4:-1])


def _unstuffed(stuffed: bytes) -> bytes:
    content, escaped = bytearray(), False
    for byte in stuffed:
        if escaped:
            content.append(byte ^ 0x20)
            escaped = False
        elif byte == _ESCAPE:
            escaped = True
        else:
            content.append(byte)
    # An escape with nothing behind it: no frame of this length is sound then.
    return b"" if escaped else bytes(content)


class ReplyFinder:
    """Finds replies to one command of one device; never raises."""

    def __init__(self, address: int, command: int) -> None:
        self.skipped_bytes = 0
        self.bad_checksums = 0
        self._wanted = bytes([address, command])
        self._pending = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes, with their delimiters, oldest first."""
        buffer, frames = self._pending + data, []
        while True:
            start = buffer.find(DELIMITER)
            if start < 0:
                self.skipped_bytes += len(buffer)
                buffer = b""
                break
            self.skipped_bytes += start
            end = buffer.find(DELIMITER, start + 1)
            if end < 0:
                buffer = buffer[start:]
                if len(buffer) > _LONGEST:
                    self.skipped_bytes += len(buffer)
                    buffer = b""
                break
            whole = buffer[start : end + 1]
            if self._is_sound(whole):
                frames.append(whole)
                buffer = buffer[end + 1 :]
            else:
                # Its end may be the beginning of the next one; two delimiters beside each other are no damage.
                self.bad_checksums += len(whole) > 2
                self.skipped_bytes += end - start
                buffer = buffer[end:]
        self._pending = buffer
        return frames

    def _is_sound(self, whole: bytes) -> bool:
        content = _unstuffed(whole[1:-1])
        return (
            len(content) >= 5
            and len(content) == content[3] + 5
            and sum(content) & 0xFF == 0xFF
            and content.startswith(self._wanted)
        )
