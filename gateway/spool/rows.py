"""A batch as a row: what is checked before anyone believes it."""

import struct
from dataclasses import dataclass
from zlib import crc32

from gateway.link.anchor import Anchor, ClockSource
from gateway.link.wire import Body

SEQ_BITS = 40
INSERT = (
    "INSERT INTO batches (id, epoch, boot_no, kind, readings, before, first_us, last_us, offset_us, uncertainty_us,"
    " source, encoding, length, crc, seal, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
SELECT = (
    "SELECT id, epoch, boot_no, kind, readings, before, first_us, last_us, offset_us, uncertainty_us,"
    " source, encoding, length, crc, seal, body FROM batches WHERE id = ?"
)
_SEAL = struct.Struct("<14q")


def batch_id(epoch_no: int, seq: int) -> int:
    """The key of a batch."""
    return epoch_no << SEQ_BITS | seq


def split_id(key: int) -> tuple[int, int]:
    """epoch_no and seq of a key."""
    return key >> SEQ_BITS, key & ((1 << SEQ_BITS) - 1)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of `batches`. Times in µs of the boot's monotonic clock."""

    id: int
    epoch: int
    boot_no: int
    kind: int
    readings: int
    before: int
    first_us: int
    last_us: int
    anchor: Anchor | None
    body: Body

    def columns(self) -> tuple[object, ...]:
        """As INSERT takes them."""
        a, b = self.anchor, self.body
        clock = (None, None, None) if a is None else (a.offset_us, a.uncertainty_us, int(a.source))
        head = (self.id, self.epoch, self.boot_no, int(self.kind), self.readings, self.before)
        return (
            *head,
            self.first_us,
            self.last_us,
            *clock,
            int(b.encoding),
            b.length,
            b.crc,
            self._seal(),
            b.stored,
        )

    def _seal(self) -> int:
        a, b = self.anchor, self.body
        clock = (0, 0, -1) if a is None else (a.offset_us, a.uncertainty_us, int(a.source))
        head = (self.id, self.epoch, self.boot_no, int(self.kind), self.readings, self.before)
        return crc32(_SEAL.pack(*head, self.first_us, self.last_us, *clock, int(b.encoding), b.length, b.crc))


def read_row(columns: tuple[object, ...]) -> Row | None:
    """The row that SELECT found; None where they are not what was written. Its body is still to be checked."""
    numbers, stored = columns[:-1], columns[-1]
    key, epoch, boot_no, kind, readings, before, first_us, last_us, offset, uncertainty, source = numbers[:11]
    if not isinstance(stored, bytes):
        return None
    anchor: Anchor | None = None
    try:
        if source is not None:
            anchor = Anchor(_int(offset), _int(uncertainty), ClockSource(_int(source)))
        row = Row(
            _int(key),
            _int(epoch),
            _int(boot_no),
            _int(kind),
            _int(readings),
            _int(before),
            _int(first_us),
            _int(last_us),
            anchor,
            Body(_int(numbers[11]), stored, _int(numbers[12]), _int(numbers[13])),
        )
        return row if row._seal() == numbers[14] else None
    # A damaged page gives any type and any number in any column.
    except (TypeError, ValueError, struct.error):
        return None


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r:.40} is not a whole number")
    return value
