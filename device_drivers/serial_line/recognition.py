"""What speaks on an unknown line: told from bytes that were heard, or from the answer to a safe question. No I/O."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product

from device_drivers.modbus import rtu
from device_drivers.serial_line import mhz19b, shdlc, sps30
from device_drivers.serial_line.codecs import STREAM_CODECS
from device_drivers.serial_line.framing import Finder, FrameFinder
from device_drivers.serial_line.text_line import LineFinder, is_number
from firmware_profiles.line import MAX_FIELD, Line

LISTEN_RATES = (9600, 115_200, 256_000, 19_200, 57_600, 38_400)
"""Baud rates to listen at, in this order: the particle sensors', that of most microcontrollers, the radars', then what
else is met."""

MODBUS_RATES = (9600, 19_200, 4800, 38_400, 115_200)
"""At which units of a Modbus line are asked, in this order."""

_SURE_FRAMES = 2
_SURE_SHARE = 0.5
_DELIMITERS = (",", ";", "\t", "|", " ")
_ASSIGNS = ("=", ":")


@dataclass(frozen=True, slots=True)
class Recognised:
    """kind: as a configuration names it. frames: whole and sound ones. share: of the bytes that they take, 0 to 1.

    layout, fields: of lines of text, how they are written as far as can be told, and what seems to be a number in them.
    """

    kind: str
    frames: int
    share: float
    layout: Line | None = None
    fields: tuple[str, ...] = ()

    @property
    def is_sure(self) -> bool:
        """Whether chance or noise would not bring it about."""
        return self.frames >= _SURE_FRAMES and self.share >= _SURE_SHARE


def recognise(heard: bytes) -> list[Recognised]:
    """Of bytes that were heard at one speed: all that they may be, the likeliest first."""
    found = [_framed(kind, FrameFinder(codec.framing), heard) for kind, codec in STREAM_CODECS.items()]
    found += _lines(heard)
    return sorted((one for one in found if one.frames), key=lambda one: (one.share, one.frames), reverse=True)


def _framed(kind: str, finder: Finder, heard: bytes) -> Recognised:
    frames = finder.feed(heard)
    return Recognised(kind, len(frames), sum(map(len, frames)) / max(1, len(heard)))


def _lines(heard: bytes) -> list[Recognised]:
    """At most one for each format; the first line may be torn and the last one is not whole."""
    found = LineFinder(is_whole_first=False).feed(heard)
    texts = [text for line in found if (text := _text(line)) is not None]
    taken: list[Recognised] = []
    for guesses in (_json(texts), _pairs(texts), _columns(texts)):
        best = max(guesses, key=lambda guess: (sum(map(len, guess[2])), len(guess[1])), default=None)
        if best is not None:
            layout, fields, lines = best
            # With their ends.
            share = min(1.0, sum(len(text.encode()) + 2 for text in lines) / max(1, len(heard)))
            taken.append(Recognised("line", len(lines), share, layout, fields))
    return taken


_Guess = tuple[Line, tuple[str, ...], list[str]]
"""A layout, the fields that have numbers, and the lines that are written so."""


def _text(line: bytes) -> str | None:
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError:
        return None
    return text if text and text.replace("\t", " ").isprintable() else None


def _json(texts: list[str]) -> list[_Guess]:
    read: list[tuple[str, Mapping[str, object]]] = []
    for text in texts:
        try:
            top = json.loads(text, parse_int=str, parse_float=str, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            continue
        if isinstance(top, dict):
            read.append((text, top))
    fields = list(dict.fromkeys(path for _, top in read for path in _paths(top)))
    return [(Line(format="json"), tuple(fields), [text for text, _ in read])] if fields else []


def _paths(top: Mapping[str, object], within: str = "") -> Iterable[str]:
    for key, value in top.items():
        # JSON may write what no terminal and no file takes, such as half of a surrogate pair: no profile names that.
        if not key.isprintable():
            continue
        if isinstance(value, dict):
            yield from _paths(value, f"{within}{key}.")
        elif isinstance(value, bool) or (isinstance(value, str) and is_number(value)):
            yield f"{within}{key}"


def _pairs(texts: list[str]) -> list[_Guess]:
    guesses: list[_Guess] = []
    for delimiter, assign in product(_DELIMITERS, _ASSIGNS):
        lines: list[str] = []
        fields: dict[str, None] = {}
        for text in texts:
            parted = [pair.partition(assign) for pair in text.split(delimiter) if pair.strip()]
            said = {key.strip(): value.strip() for key, _, value in parted}
            numbers = [key for key, value in said.items() if key and is_number(value)]
            if numbers and all(found and key.strip() for key, found, _ in parted):
                lines.append(text)
                fields |= dict.fromkeys(numbers)
        if lines:
            layout = Line.model_validate({"format": "key_value", "delimiter": delimiter, "assign": assign})
            guesses.append((layout, tuple(fields), lines))
    return guesses


def _columns(texts: list[str]) -> list[_Guess]:
    """Lines of several columns of which at least half are numbers; named by a line of names, if one was heard."""
    guesses: list[_Guess] = []
    for delimiter in _DELIMITERS:
        rows = [(text, [cell.strip() for cell in text.split(delimiter)]) for text in texts]
        rows = [
            (text, cells) for text, cells in rows if len(cells) > 1 and 2 * sum(map(is_number, cells)) >= len(cells)
        ]
        if not rows:
            continue
        count = len(rows[0][1])
        lines = [text for text, cells in rows if len(cells) == count]
        numbers = [all(is_number(cells[n]) for _, cells in rows if len(cells) == count) for n in range(count)]
        named = [cells for text in texts if len(cells := [c.strip() for c in text.split(delimiter)]) == count]
        header = next((c for c in named if _are_names(c)), None)
        columns = header or [f"column{n}" for n in range(1, count + 1)]
        layout = Line.model_validate({"format": "csv", "columns": columns, "delimiter": delimiter})
        guesses.append((layout, tuple(name for name, is_one in zip(columns, numbers, strict=True) if is_one), lines))
    return guesses


def _are_names(cells: list[str]) -> bool:
    """Whether a line of columns names them, as a profile would."""
    return len(set(cells)) == len(cells) and all(0 < len(c) <= MAX_FIELD and not is_number(c) for c in cells)


@dataclass(frozen=True, slots=True)
class Probe:
    """A question that changes nothing in the device that is meant, and whose sound answer names it.

    What it means to another device nobody knows: it is asked only where the operator wants it. unit: on a Modbus line,
    0 elsewhere.
    """

    kind: str
    baudrate: int
    request: bytes
    finder: Callable[[], Finder]
    unit: int = 0


def _sps30_finder() -> Finder:
    return shdlc.ReplyFinder(sps30.ADDRESS, sps30.VERSION)


PROBES = (
    Probe("mhz19b", mhz19b.BAUDRATE, mhz19b.REQUEST, lambda: FrameFinder(mhz19b.REPLY)),
    Probe("sps30", sps30.BAUDRATE, shdlc.request(sps30.ADDRESS, sps30.VERSION), _sps30_finder),
)
"""Of sensors on lines of their own: a reading, and the version of the firmware."""


def unit_probe(unit: int, baudrate: int) -> Probe:
    """Reads one holding register of a Modbus unit; that it has none such is an answer, too."""
    request = rtu.read_request(unit, rtu.READ_HOLDING, 0, 1)
    return Probe("modbus", baudrate, request, lambda: rtu.ReplyFinder(request), unit)
