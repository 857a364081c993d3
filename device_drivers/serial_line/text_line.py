"""Lines of text: found in a stream of bytes, and read as a profile's table [line] says. No clock, no I/O.

Whatever a microcontroller prints may come: boot messages, halves of lines, numbers that are none. What cannot be used
is counted by kind; nothing here raises.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import xor

from device_drivers.modbus.rtu import crc16
from device_drivers.serial_line.codec import Sample
from firmware_profiles.line import Line
from firmware_profiles.profile import FirmwareProfile

MAX_LINE_BYTES = 1024
"""Of a line: one that never ends must not fill the memory. Programs of microcontrollers print some hundred at most."""

_MAX_FIRMWARE = 64
# As JSON has it, with a plus sign as many programs print it; `float` would take "1_0", "infinity" and other digits.
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?", re.ASCII)


class LineFinder:
    """A `Finder` of lines, given without their ends; empty ones are left out.

    is_whole_first: whether what came first is taken for a whole line. After opening it may be the rest of one: of
    `21.5,45` a sound `1.5,45`.
    """

    def __init__(self, *, is_whole_first: bool) -> None:
        self.skipped_bytes = 0
        self.bad_checksums = 0
        self.too_long = 0
        """Lines beyond the bound, each dropped to its end."""
        self._pending = b""
        self._is_dropping = not is_whole_first

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, oldest first."""
        lines: list[bytes] = []
        *ended, rest = data.replace(b"\r", b"\n").split(b"\n")
        for piece in ended:
            line = self._pending + piece
            self._pending = b""
            if self._is_dropping:
                self.skipped_bytes += len(line)
                self._is_dropping = False
            elif len(line) > MAX_LINE_BYTES:
                self._drop(line)
            elif line:
                lines.append(line)
        if self._is_dropping:
            self.skipped_bytes += len(rest)
        elif len(self._pending) + len(rest) > MAX_LINE_BYTES:
            self._drop(self._pending + rest)
            self._pending, self._is_dropping = b"", True
        else:
            self._pending += rest
        return lines

    def _drop(self, line: bytes) -> None:
        self.too_long += 1
        self.skipped_bytes += len(line)


@dataclass(frozen=True, slots=True)
class Said:
    """What a line says. firmware: "" where it states none; values: by channel, of the fields that have a number."""

    firmware: str
    values: Mapping[str, float]


def read_line(layout: Line, fields: Mapping[str, str], line: bytes, faults: Counter[str]) -> Said | None:
    """fields: of each channel. None where the line is none of this layout, or has no number that is asked for.

    Adds to `faults`: bad_text (no UTF-8), bad_checksums, malformed (not as the layout says), duplicate_keys,
    missing_fields, not_numbers (NaN, beyond what a float holds, text).
    """
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError:
        faults["bad_text"] += 1
        return None
    if layout.checksum != "none":
        checked = _checked(layout, text)
        if checked is None:
            faults["bad_checksums"] += 1
            return None
        text = checked
    if layout.format == "csv" and tuple(_cells(layout, text)) == layout.columns:
        # The names of the columns, as programs print them when they start.
        return None
    try:
        found = _FORMATS[layout.format](layout, text)
    except _DuplicateKeyError:
        faults["duplicate_keys"] += 1
        return None
    except (ValueError, RecursionError):
        faults["malformed"] += 1
        return None
    values: dict[str, float] = {}
    for channel, field in fields.items():
        raw = found(field)
        number = _number(raw)
        if number is not None:
            values[channel] = number
        else:
            faults["missing_fields" if raw is None else "not_numbers"] += 1
    firmware = _firmware(found(layout.firmware_field)) if layout.firmware_field is not None else ""
    if firmware is None:
        faults["missing_fields"] += 1
        return None
    return Said(firmware, values) if values else None


def fields_of(profile: FirmwareProfile) -> Mapping[str, str]:
    """Of each channel of a profile with lines."""
    return {name: channel.field for name, channel in profile.channels.items() if channel.field is not None}


def read_whole(profile: FirmwareProfile, line: bytes) -> Sample | None:
    """Of a line that was kept raw, by a profile that has come since; None where it is none of its lines."""
    said = None if profile.line is None else read_line(profile.line, fields_of(profile), line, Counter())
    return None if said is None else Sample(said.values, said.firmware)


def write_line(layout: Line, values: Mapping[str, str]) -> bytes:
    """A line with these fields, each as its text: what a device prints. json: paths of keys, not of lists."""
    if layout.format == "csv":
        text = layout.delimiter.join(_by_column(layout, values))
    elif layout.format == "key_value":
        text = layout.delimiter.join(f"{key}{layout.assign}{value}" for key, value in values.items())
    else:
        text = _nested(values)
    return text.encode() + (_checksum(layout, text) if layout.checksum != "none" else b"") + b"\r\n"


def _by_column(layout: Line, values: Mapping[str, str]) -> list[str]:
    cells = [""] * len(layout.columns)
    for field, value in values.items():
        column = layout.column(field)
        assert column is not None, "the profile has refused it"
        cells[column] = value
    return cells


def _nested(values: Mapping[str, str]) -> str:
    own = {path: value for path, value in values.items() if "." not in path}
    below: dict[str, dict[str, str]] = {}
    for path, value in values.items():
        head, dot, rest = path.partition(".")
        if dot:
            below.setdefault(head, {})[rest] = value
    members = [f'"{key}":{value if _NUMBER.fullmatch(value) else json.dumps(value)}' for key, value in own.items()]
    members += [f'"{key}":{_nested(inner)}' for key, inner in below.items()]
    return "{" + ",".join(members) + "}"


def _checksum(layout: Line, text: str) -> bytes:
    summed = text.removeprefix("$").encode()
    if layout.checksum == "xor":
        return b"*%02X" % reduce(xor, summed, 0)
    return b"*%04X" % int.from_bytes(crc16(summed), "little")


def _checked(layout: Line, text: str) -> str | None:
    """What the checksum is of; None where it is wrong or missing."""
    said, star, given = text.rpartition("*")
    if not star or (star + given).upper().encode() != _checksum(layout, said):
        return None
    return said.removeprefix("$")


def is_number(text: str) -> bool:
    """Whether a field with this text is a number, as far as its text tells."""
    return _NUMBER.fullmatch(text) is not None


class _DuplicateKeyError(ValueError):
    """One name for two numbers: nobody knows which is meant."""


_Found = Callable[[str], object]
"""What a field has; None where it is missing."""


def _of_json(_: Line, text: str) -> _Found:
    # Numbers as they were written: a version 1.10 is not 1.1, and an integer has any number of digits.
    top = json.loads(text, object_pairs_hook=_without_duplicates, parse_float=str, parse_int=str, parse_constant=str)
    if not isinstance(top, dict):
        raise ValueError("no object")

    def found(path: str) -> object:
        inner: object = top
        for part in path.split("."):
            if isinstance(inner, dict):
                inner = inner.get(part)
            elif isinstance(inner, list) and part.isdecimal() and int(part) < len(inner):
                inner = inner[int(part)]
            else:
                return None
        return inner

    return found


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _DuplicateKeyError
    return found


def _of_csv(layout: Line, text: str) -> _Found:
    cells = _cells(layout, text)
    if len(cells) != len(layout.columns):
        raise ValueError("another number of columns")

    def found(field: str) -> object:
        column = layout.column(field)
        return None if column is None else cells[column] or None

    return found


def _cells(layout: Line, text: str) -> list[str]:
    # Programs pad with spaces: several of them are one delimiter.
    return text.split() if layout.delimiter == " " else [cell.strip() for cell in text.split(layout.delimiter)]


def _of_key_value(layout: Line, text: str) -> _Found:
    pairs = [pair.partition(layout.assign) for pair in text.split(layout.delimiter) if pair.strip()]
    if not all(assign for _, assign, _ in pairs):
        raise ValueError("no pair")
    found = _without_duplicates([(key.strip(), value.strip() or None) for key, _, value in pairs])
    return found.get


_FORMATS: Mapping[str, Callable[[Line, str], _Found]] = {
    "json": _of_json,
    "csv": _of_csv,
    "key_value": _of_key_value,
}


def _number(raw: object) -> float | None:
    """A finite number; yes and no are 1 and 0. None: it is no number."""
    if isinstance(raw, bool):
        return float(raw)
    if not isinstance(raw, str) or not _NUMBER.fullmatch(raw):
        return None
    number = float(raw)
    return number if math.isfinite(number) else None


def _firmware(raw: object) -> str | None:
    """None where it is missing, or nothing that a series can carry."""
    return raw if isinstance(raw, str) and raw and raw.isprintable() and len(raw) <= _MAX_FIRMWARE else None
