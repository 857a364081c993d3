"""Frames of Modbus RTU (Modbus over Serial Line, V1.02; Modbus Application Protocol, V1.1b3). No clock, no I/O.

A request is unit, function, data, CRC-16 (little-endian); so is a reply. A reply with the function's highest bit set is
an exception, and has a code. Nothing in a reply says which registers it is of: whoever asked knows.
"""

from struct import Struct

READ_COILS, READ_DISCRETE, READ_HOLDING, READ_INPUT, WRITE_SINGLE = 0x01, 0x02, 0x03, 0x04, 0x06
_OF_BITS = (READ_COILS, READ_DISCRETE)

EXCEPTIONS = {
    1: "it does not know this function",
    2: "it has no such register",
    3: "it refuses this number of registers, or this value",
    4: "it failed",
    5: "it needs longer",
    6: "it is busy",
    8: "its memory is damaged",
    10: "no path to it",
    11: "it did not answer its gateway",
}

_EXCEPTION = 0x80
_HEAD = Struct(">BBHH")


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


_TABLE = _crc_table()


def crc16(data: bytes) -> bytes:
    """As it goes over the line, low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc.to_bytes(2, "little")


def framed(content: bytes) -> bytes:
    """With its checksum."""
    return content + crc16(content)


def read_request(unit: int, function: int, address: int, count: int) -> bytes:
    """function: one of READ_…. address: as protocols count, from 0 on."""
    return framed(_HEAD.pack(unit, function, address, count))


def write_request(unit: int, address: int, value: int) -> bytes:
    """Writes one holding register; the reply is the request."""
    return framed(_HEAD.pack(unit, WRITE_SINGLE, address, value))


def read_reply(unit: int, function: int, registers: bytes) -> bytes:
    """What a unit answers. registers: two bytes each, high byte first; or bits, eight to a byte."""
    return framed(bytes([unit, function, len(registers)]) + registers)


def exception_reply(unit: int, function: int, code: int) -> bytes:
    """What a unit answers that cannot, or will not."""
    return framed(bytes([unit, function | _EXCEPTION, code]))


def exception_code(reply: bytes) -> int | None:
    """Of a reply that `ReplyFinder` found; None where it is none."""
    return reply[2] if reply[1] & _EXCEPTION else None


class ReplyFinder:
    """Finds the reply to one request, or its exception; never raises.

    Another unit's, another function's or another length's is no reply to it, nor is an echo of the request itself.
    """

    def __init__(self, request: bytes) -> None:
        self.skipped_bytes = 0
        self.bad_checksums = 0
        unit, function, _, count = _HEAD.unpack_from(request)
        is_read = function != WRITE_SINGLE
        self._echo = request if is_read else b""
        data_bytes = (count + 7) // 8 if function in _OF_BITS else 2 * count
        self._begins = bytes([unit, function, data_bytes]) if is_read else request[:6]
        self._length = data_bytes + 5 if is_read else len(request)
        self._refuses = bytes([unit, function | _EXCEPTION])
        self._pending = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The reply that `data` completes, if it does."""
        buffer, position, frames = self._pending + data, 0, []
        while position < len(buffer):
            rest = buffer[position:]
            if self._echo and rest.startswith(self._echo):
                # An adapter that hears itself. Before anything else: it could be taken for the beginning of a reply.
                self.skipped_bytes += len(self._echo)
                position += len(self._echo)
                continue
            length = self._length_of(rest)
            if length is None:
                self.skipped_bytes += 1
                position += 1
            elif len(rest) < length:
                break
            elif crc16(rest[: length - 2]) == rest[length - 2 : length]:
                frames.append(rest[:length])
                position += length
            else:
                self.bad_checksums += 1
                self.skipped_bytes += 1
                position += 1
        self._pending = buffer[position:]
        return frames

    def _length_of(self, rest: bytes) -> int | None:
        """Of the frame that may begin here, as far as can be seen; None: none does."""
        if rest.startswith(self._begins[: len(rest)]):
            return self._length
        if rest.startswith(self._refuses[: len(rest)]):
            return 5
        if self._echo and self._echo.startswith(rest):
            return len(self._echo)
        return None
