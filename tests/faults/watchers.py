"""What the proxy knows of the protocols: MQTT packets on their way to the broker, and PostgreSQL's COMMIT."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.faults.proxy import CutHere

_CONNECT, _PUBLISH, _PUBACK = 1, 3, 4
_MQTT5 = 5
_STATEMENT = 4096
"""The text of a statement stands in the first bytes that are sent of it, with its values behind."""


@dataclass(slots=True)
class BatchTap:
    """Hears every batch that a gateway publishes. While `forgetful`, acknowledges batches in the broker's place and
    forgets them. While there is `noise`, flips a bit of each; `copies`: how often each is sent on."""

    heard: Callable[[str, bytes], None]
    forgetful: bool = False
    noise: Random | None = None
    copies: int = 1

    def watch(self) -> "MqttWatcher":
        return MqttWatcher(self)


class MqttWatcher:
    """One connection of an MQTT client (MQTT 3.1.1 §2.2, MQTT 5 §2.1)."""

    def __init__(self, tap: BatchTap) -> None:
        self._tap = tap
        self._pending = b""
        self._version = 4

    def up(self, data: bytes) -> tuple[bytes, bytes]:
        buffer = self._pending + data
        forward, answer, position = b"", b"", 0
        while (end := _packet_end(buffer, position)) is not None:
            packet = buffer[position:end]
            onward, answered = self._packet(packet)
            forward += onward
            answer += answered
            position = end
        self._pending = buffer[position:]
        return forward, answer

    def _packet(self, packet: bytes) -> tuple[bytes, bytes]:
        """What goes on of a packet, and what is answered in the broker's place."""
        kind, flags = packet[0] >> 4, packet[0] & 0x0F
        start = _length_end(packet, 1)
        if kind == _CONNECT:
            # Behind the protocol's name, which has 4 letters and 2 bytes of length.
            self._version = packet[start + 6]
        if kind != _PUBLISH:
            return packet, b""
        length = int.from_bytes(packet[start : start + 2], "big")
        topic = packet[start + 2 : start + 2 + length].decode()
        if not topic.endswith("/batch"):
            return packet, b""
        after = start + 2 + length
        identifier = packet[after : after + 2] if flags & 0b0110 else b""
        after += len(identifier)
        if self._version == _MQTT5:
            size, after = _variable(packet, after)
            after += size
        self._tap.heard(topic, packet[after:])
        if self._tap.forgetful:
            return b"", bytes([_PUBACK << 4, 2]) + identifier
        noise = self._tap.noise
        if noise is not None:
            flipped = bytearray(packet)
            flipped[noise.randrange(after, len(packet))] ^= 1 << noise.randrange(8)
            packet = bytes(flipped)
        return packet * self._tap.copies, b""


def _packet_end(buffer: bytes, start: int) -> int | None:
    if len(buffer) < start + 2:
        return None
    try:
        size, after = _variable(buffer, start + 1)
    except IndexError:
        return None
    return after + size if len(buffer) >= after + size else None


def _variable(buffer: bytes, position: int) -> tuple[int, int]:
    """A variable byte integer, and where it ends."""
    value, shift = 0, 0
    while True:
        byte = buffer[position]
        value |= (byte & 0x7F) << shift
        shift += 7
        position += 1
        if not byte & 0x80:
            return value, position


def _length_end(packet: bytes, position: int) -> int:
    return _variable(packet, position)[1]


@dataclass(slots=True)
class CommitTrap:
    """Cuts the next COMMIT off: before the database hears of it, or after, so that the client never learns.

    armed: "before", "after" or None. of: what the transaction must have said before. silently: the connection does
    not end, so that whoever waits for the answer can be killed in the middle of it.
    """

    armed: str | None = None
    of: bytes = b""
    silently: bool = False
    sprung: int = 0

    def watch(self) -> "CommitWatcher":
        return CommitWatcher(self)


class CommitWatcher:
    """One connection of a PostgreSQL client."""

    def __init__(self, trap: CommitTrap) -> None:
        self._trap = trap
        self._said = b""

    def up(self, data: bytes) -> tuple[bytes, bytes]:
        trap = self._trap
        self._said = (b"" if b"BEGIN" in data else self._said) + data[:_STATEMENT]
        if trap.armed is not None and b"COMMIT" in data and trap.of in self._said:
            where, trap.armed = trap.armed, None
            trap.sprung += 1
            raise CutHere(data if where == "after" else b"", silently=trap.silently)
        return data, b""
