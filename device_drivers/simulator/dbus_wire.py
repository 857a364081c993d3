"""The D-Bus message format: header fields decoded, bodies left as they are. No socket, no asyncio.

Format: https://dbus.freedesktop.org/doc/dbus-specification.html#message-protocol-messages. A bus has to add the
sender to each message that it passes on, which dbus-fast's own encoder cannot.
"""

import struct
from dataclasses import dataclass, field
from enum import IntEnum

from device_drivers.errors import ProtocolError

HEAD_SIZE = 16
"""Bytes after which `message_size` can tell how long the message is."""

# The specification allows 128 MiB; BlueZ with a thousand devices answers with half of one.
MAX_MESSAGE_SIZE = 4 << 20

NO_REPLY_EXPECTED = 0x1
_LITTLE_ENDIAN = ord("l")
_VERSION = 1
_FIXED = struct.Struct("<BBBBIII")
_LENGTH = struct.Struct("<I")


class Kind(IntEnum):
    METHOD_CALL = 1
    METHOD_RETURN = 2
    ERROR = 3
    SIGNAL = 4


class Field(IntEnum):
    PATH = 1
    INTERFACE = 2
    MEMBER = 3
    ERROR_NAME = 4
    REPLY_SERIAL = 5
    DESTINATION = 6
    SENDER = 7
    SIGNATURE = 8
    UNIX_FDS = 9


_SIGNATURES = {
    Field.PATH: b"o",
    Field.REPLY_SERIAL: b"u",
    Field.SIGNATURE: b"g",
    Field.UNIX_FDS: b"u",
}


@dataclass(slots=True)
class Frame:
    """One message. fields: of the header, by code; body: as marshalled by its sender."""

    kind: Kind
    serial: int
    flags: int = 0
    fields: dict[Field, str | int] = field(default_factory=dict)
    body: bytes = b""

    def text(self, code: Field) -> str:
        """A field that is text, or nothing."""
        return str(self.fields.get(code, ""))


def message_size(head: bytes) -> int:
    """The size in bytes of the message that starts with these `HEAD_SIZE`; raises ProtocolError."""
    endian, kind, _, version, body, _, fields = _FIXED.unpack_from(head)
    if endian != _LITTLE_ENDIAN or version != _VERSION or not 1 <= kind <= 4:
        raise ProtocolError("not a little-endian D-Bus message of version 1")
    size = _aligned(HEAD_SIZE + fields, 8) + int(body)
    if size > MAX_MESSAGE_SIZE:
        raise ProtocolError(f"a D-Bus message of {size} bytes")
    return size


def decode(message: bytes) -> Frame:
    """Raises ProtocolError where the bytes are not one whole message."""
    if len(message) < HEAD_SIZE or len(message) != message_size(message):
        raise ProtocolError("not one whole D-Bus message")
    _, kind, flags, _, _, serial, size = _FIXED.unpack_from(message)
    end = HEAD_SIZE + size
    fields: dict[Field, str | int] = {}
    at = HEAD_SIZE
    try:
        while at < end:
            at = _aligned(at, 8)
            code, signature = Field(message[at]), message[at + 2 : at + 3]
            fields[code], at = _decode_value(signature, message, at + 4)
    except (struct.error, IndexError, ValueError) as error:
        raise ProtocolError(f"a damaged D-Bus header: {error}") from error
    return Frame(Kind(kind), serial, flags, fields, message[_aligned(end, 8) :])


def encode(frame: Frame) -> bytes:
    """The bytes of a message, fields in the order of their codes."""
    fields = bytearray()
    for code, value in sorted(frame.fields.items()):
        fields += bytes(-len(fields) % 8)
        signature = _SIGNATURES.get(code, b"s")
        fields += bytes([code, 1]) + signature + b"\0" + _encode_value(signature, value)
    head = _FIXED.pack(_LITTLE_ENDIAN, frame.kind, frame.flags, _VERSION, len(frame.body), frame.serial, len(fields))
    return head + bytes(fields) + bytes(-len(fields) % 8) + frame.body


def encode_string(text: str) -> bytes:
    """A string as the first value of a body, or after values that end on a multiple of four."""
    data = text.encode()
    return _LENGTH.pack(len(data)) + data + b"\0"


def encode_strings(*texts: str) -> bytes:
    """A body of strings."""
    body = bytearray()
    for text in texts:
        body += bytes(-len(body) % 4) + encode_string(text)
    return bytes(body)


def encode_number(number: int) -> bytes:
    """A body of one `u` or `b`."""
    return _LENGTH.pack(number)


def first_string(body: bytes) -> str:
    """The string that a body starts with; raises ProtocolError where there is none."""
    try:
        text, _ = _decode_value(b"s", body, 0)
    except (struct.error, ValueError) as error:
        raise ProtocolError(f"a body that does not start with a string: {error}") from error
    return str(text)


def _aligned(position: int, size: int) -> int:
    return position + -position % size


def _decode_value(signature: bytes, data: bytes, at: int) -> tuple[str | int, int]:
    if signature == b"g":
        start, size = at + 1, data[at]
    else:
        (size,) = _LENGTH.unpack_from(data, at)
        start = at + 4
        if signature == b"u":
            return int(size), start
        if signature not in (b"s", b"o"):
            raise ValueError(f"a header field of type {signature!r}")
    if start + size >= len(data):
        raise ValueError("a text that is longer than its message")
    return data[start : start + size].decode(), start + size + 1


def _encode_value(signature: bytes, value: str | int) -> bytes:
    if signature == b"u":
        return _LENGTH.pack(value)
    data = str(value).encode()
    if signature == b"g":
        return bytes([len(data)]) + data + b"\0"
    return _LENGTH.pack(len(data)) + data + b"\0"
