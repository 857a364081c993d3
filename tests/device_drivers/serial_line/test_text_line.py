"""Lines of text as programs of microcontrollers print them, and as they should not: counted by kind, never raised."""

import random
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from device_drivers.serial_line.text_line import MAX_LINE_BYTES, LineFinder, Said, read_line, write_line
from firmware_profiles.line import Line
from firmware_profiles.profile import FirmwareProfile

JSON = Line(format="json", firmware_field="fw")
CSV = Line(format="csv", columns=("t_ms", "temp", "hum"))
PAIRS = Line(format="key_value")
FIELDS = {"temperature": "temp", "humidity": "hum"}


def read(layout: Line, line: bytes, fields: dict[str, str] | None = None) -> tuple[Said | None, dict[str, int]]:
    faults: Counter[str] = Counter()
    return read_line(layout, fields or FIELDS, line, faults), dict(faults)


# -- one line


@pytest.mark.parametrize(
    ("layout", "line"),
    [
        (Line(format="json"), b'{"temp":21.5,"hum":45}'),
        (Line(format="json"), b' { "hum" : "45", "x": null, "temp": 2.15e1 } '),
        (CSV, b"81234,21.5,45"),
        (CSV, b" 81234 , +21.50 ,  45. "),
        (Line(format="csv", columns=("temp", "hum"), delimiter=";"), b"21.5;45"),
        (Line(format="csv", columns=("temp", "hum"), delimiter=" "), b"21.5    45"),
        (Line(format="csv", columns=("temp", "hum"), delimiter="\t"), b"21.5\t45"),
        (PAIRS, b"temp=21.5,hum=45"),
        (PAIRS, b"hum = 45 , temp = 21.5, note=hello,"),
        (Line(format="key_value", delimiter=" ", assign=":"), b"temp:21.5 hum:45"),
        # Computed by a program that shares no code with ours; CRC-16/MODBUS, whose check value is 0x4B37.
        (Line(format="csv", columns=("temp", "hum"), checksum="xor"), b"$21.5,45*35"),
        (Line(format="csv", columns=("temp", "hum"), checksum="xor"), b"21.5,45*35"),
        (Line(format="key_value", checksum="crc16"), b"temp=21.5,hum=45*ACC2"),
    ],
)
def test_what_a_line_says(layout: Line, line: bytes) -> None:
    assert read(layout, line) == (Said("", {"temperature": 21.5, "humidity": 45.0}), {})


def test_a_path_into_objects_and_lists() -> None:
    said, faults = read(JSON, b'{"fw":1.10,"air":{"t":[20,21.5]},"on":true}', {"t": "air.t.1", "on": "on"})
    # A version keeps its noughts: 1.10 is not 1.1.
    assert said == Said("1.10", {"t": 21.5, "on": 1.0})
    assert faults == {}


def test_columns_by_number() -> None:
    assert read(CSV, b"81234,21.5,45", {"t": "2", "h": "hum"})[0] == Said("", {"t": 21.5, "h": 45.0})


@pytest.mark.parametrize(
    ("layout", "line", "fault"),
    [
        (PAIRS, b"temp=21.5,hum=\xff", "bad_text"),
        (JSON, b"# climate node 1.2 starts", "malformed"),
        (JSON, b'{"temp":21.5', "malformed"),
        (JSON, b'[{"temp":21.5}]', "malformed"),
        (JSON, b"21.5", "malformed"),
        (JSON, b"[" * MAX_LINE_BYTES, "malformed"),
        (JSON, b'{"a":' * 200 + b"1" + b"}" * 199, "malformed"),
        (JSON, b'{"fw":"1","temp":21.5,"temp":22}', "duplicate_keys"),
        (JSON, b'{"fw":"1","a":{"b":1,"b":2},"temp":21.5}', "duplicate_keys"),
        (PAIRS, b"temp=21.5,hum=45,temp=22", "duplicate_keys"),
        (PAIRS, b"temp=21.5;hum,hum=45", "not_numbers"),
        (PAIRS, b"climate node", "malformed"),
        (CSV, b"21.5,45", "malformed"),
        (CSV, b"1,21.5,45,9", "malformed"),
        (CSV, b"1,,45", "missing_fields"),
        (CSV, b"1,nan,45", "not_numbers"),
        (CSV, b"1,1_0,45", "not_numbers"),
        (CSV, b"1,0x15,45", "not_numbers"),
        (CSV, "1,٢١,45".encode(), "not_numbers"),
        (CSV, b"1,21.5C,45", "not_numbers"),
        (JSON, b'{"fw":"1","temp":NaN,"hum":45}', "not_numbers"),
        (JSON, b'{"fw":"1","temp":-Infinity,"hum":45}', "not_numbers"),
        (JSON, b'{"fw":"1","temp":1e400,"hum":45}', "not_numbers"),
        (JSON, b'{"fw":"1","temp":1' + b"0" * 400 + b',"hum":45}', "not_numbers"),
        (JSON, b'{"fw":"1","temp":[1],"hum":45}', "not_numbers"),
        (JSON, b'{"fw":"1","temp":null,"hum":45}', "missing_fields"),
        (JSON, b'{"temp":21.5,"hum":45}', "missing_fields"),
        (JSON, b'{"fw":"\\n","temp":21.5,"hum":45}', "missing_fields"),
        (JSON, b'{"fw":"' + b"1" * 65 + b'","temp":21.5,"hum":45}', "missing_fields"),
        (Line(format="csv", columns=("temp", "hum"), checksum="xor"), b"21.5,45", "bad_checksums"),
        (Line(format="csv", columns=("temp", "hum"), checksum="xor"), b"21.5,45*34", "bad_checksums"),
    ],
)
def test_what_is_wrong_is_counted_by_its_kind(layout: Line, line: bytes, fault: str) -> None:
    said, faults = read(layout, line)
    assert set(faults) == {fault}
    # What is right beside it stays.
    assert said is None or set(said.values) < set(FIELDS)


def test_the_names_of_the_columns_are_neither_numbers_nor_a_fault() -> None:
    assert read(CSV, b"t_ms, temp, hum") == (None, {})


def test_a_line_without_any_number_that_is_asked_for_says_nothing() -> None:
    assert read(JSON, b'{"fw":"1","temp":"?"}') == (None, {"not_numbers": 1, "missing_fields": 1})


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_counted(line: bytes) -> None:
    for layout in (JSON, CSV, PAIRS):
        said, faults = read(layout, line)
        assert said is not None or faults


@pytest.mark.parametrize("checksum", ["xor", "crc16"])
def test_every_flipped_bit_of_a_line_with_a_checksum_is_refused(checksum: Any) -> None:
    layout = Line(format="key_value", checksum=checksum)
    line = write_line(layout, {"temp": "21.5", "hum": "45"}).rstrip()
    assert read(layout, line)[0] is not None
    for bit in range(8 * len(line)):
        damaged = line[: bit // 8] + bytes([line[bit // 8] ^ 1 << bit % 8]) + line[bit // 8 + 1 :]
        is_other_case = bit // 8 > line.index(b"*") and damaged[bit // 8 :].upper() == line[bit // 8 :]
        if not is_other_case:
            assert read(layout, damaged)[0] is None, damaged


@pytest.mark.parametrize(("layout", "unnoticed"), [(JSON, b"1.221.545"), (CSV, b"81234,21.5,45"), (PAIRS, b"21.545")])
def test_flipped_bits_that_pass_a_line_without_a_checksum_lie_in_its_numbers(layout: Line, unnoticed: bytes) -> None:
    """Named here: digits, signs and points of numbers, and in csv columns that nobody reads. All else is refused."""
    values = {"temp": "21.5", "hum": "45"}
    if layout is JSON:
        values = {"fw": "1.2", **values}
    if layout is CSV:
        values = {"t_ms": "81234", **values}
    line = write_line(layout, values).rstrip()
    right = read(layout, line)[0]
    assert right is not None
    for bit in range(8 * len(line)):
        damaged = line[: bit // 8] + bytes([line[bit // 8] ^ 1 << bit % 8]) + line[bit // 8 + 1 :]
        said, faults = read(layout, damaged)
        if said is not None and said != right and set(said.values) == set(right.values):
            assert line[bit // 8] in unnoticed, damaged
            assert not faults


# -- a stream of them


def test_lines_end_as_they_like_and_come_in_pieces() -> None:
    stream = b"torn,1\r\n1,2\n\n3,4\r5,6\r\n7,"
    for cut in range(len(stream)):
        finder = LineFinder(is_whole_first=False)
        assert finder.feed(stream[:cut]) + finder.feed(stream[cut:]) == [b"1,2", b"3,4", b"5,6"]
        assert finder.skipped_bytes == len(b"torn,1")
        assert finder.feed(b"8\n") == [b"7,8"]


def test_byte_by_byte_and_back_to_back() -> None:
    finder, line = LineFinder(is_whole_first=True), write_line(JSON, {"fw": "1", "temp": "21.5"})
    given_at = [finder.feed(bytes([byte])) for byte in line * 2]
    assert [lines for lines in given_at if lines] == [[line.rstrip()]] * 2
    assert finder.feed(line * 3) == [line.rstrip()] * 3


def test_a_line_that_never_ends_is_dropped_and_counted_and_the_next_is_read() -> None:
    finder = LineFinder(is_whole_first=True)
    for _ in range(100):
        assert finder.feed(b"x" * 100) == []
    assert finder.feed(b"x\n1,2\n") == [b"1,2"]
    assert (finder.too_long, finder.skipped_bytes) == (1, 10_001)
    assert finder.feed(b"y" * (MAX_LINE_BYTES + 1) + b"\n" + b"z" * MAX_LINE_BYTES + b"\n") == [b"z" * MAX_LINE_BYTES]
    assert finder.too_long == 2


@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=6), st.booleans())
def test_any_bytes_in_any_pieces_are_accounted_for(stream: bytes, cuts: list[int], is_whole_first: bool) -> None:
    stream = stream.replace(b"0", b"\n")
    whole = LineFinder(is_whole_first=is_whole_first)
    lines = whole.feed(stream)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    split = LineFinder(is_whole_first=is_whole_first)
    assert [line for a, b in pairwise(edges) for line in split.feed(stream[a:b])] == lines
    assert (split.skipped_bytes, split.too_long) == (whole.skipped_bytes, whole.too_long)
    ends = stream.count(b"\n") + stream.count(b"\r")
    held = len(stream) - ends - whole.skipped_bytes - sum(map(len, lines))
    assert 0 <= held <= MAX_LINE_BYTES


def test_what_is_written_is_what_is_read() -> None:
    rng = random.Random(5)
    for layout in (JSON, CSV, PAIRS, Line(format="key_value", checksum="crc16", delimiter=";", assign=":")):
        for _ in range(50):
            numbers = {"temp": round(rng.uniform(-40, 125), 3), "hum": round(rng.uniform(0, 100), 3)}
            fields = {"t_ms": "1"} if layout is CSV else {"fw": "1.2"} if layout is JSON else {}
            line = write_line(layout, fields | {name: str(number) for name, number in numbers.items()})
            said, faults = read(layout, line.rstrip())
            assert said is not None
            assert said.values == {"temperature": numbers["temp"], "humidity": numbers["hum"]}
            assert faults == {}


# -- profiles that cannot be


@pytest.mark.parametrize(
    ("line", "field", "why"),
    [
        ({"format": "xml"}, "a", "'json', 'csv' or 'key_value'"),
        ({"format": "csv"}, "a", "columns: name all of them"),
        ({"format": "json", "columns": ["a"]}, "a", "leave them out with another"),
        ({"format": "csv", "columns": ["a", "a"]}, "a", "a name stands there twice"),
        ({"format": "csv", "columns": ["a", "b"]}, "c", '"c" is no column: write one of a, b'),
        ({"format": "csv", "columns": ["a", "b"]}, "3", '"3" is no column'),
        ({"format": "csv", "columns": ["a"], "firmware_field": "fw"}, "a", "firmware_field: 'fw' is none of a"),
        ({"format": "key_value", "delimiter": "::"}, "a", "should match pattern"),
        ({"format": "json"}, None, r"say where its number is, with \[line\]"),
        (None, "a", r"a channel has a field; write a table \[line\]"),
    ],
)
def test_profiles_that_cannot_be(line: dict[str, Any] | None, field: str | None, why: str) -> None:
    channel = {"quantity": "x", "unit": "1", "minimum": 0, "maximum": 1} | ({} if field is None else {"field": field})
    table = {
        "name": "x/1",
        "models": ["X"],
        "manufacturer": "x",
        "driver": "line",
        "sources": {"t": {"title": "made up", "document": "this test"}},
        "channels": {"x": channel},
    }
    with pytest.raises(ValidationError, match=why):
        FirmwareProfile.model_validate(table | ({} if line is None else {"line": line}))
