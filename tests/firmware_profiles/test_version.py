"""Versions as numbers, and ranges of them."""

import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from firmware_profiles.version import FirmwareRange, parse_version


def test_versions_are_numbers() -> None:
    assert parse_version("1.9") == (1, 9)
    assert parse_version("2.0.0") == parse_version("2") == (2,)
    assert parse_version("0") == ()
    assert parse_version("1..2") is None


VERSIONS = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(lambda numbers: ".".join(map(str, numbers)))
CLAUSES = st.tuples(st.sampled_from([">=", ">", "<=", "<", "==", "~="]), VERSIONS).map("".join)
RANGES = st.lists(CLAUSES, min_size=1, max_size=3).map(",".join)


@given(RANGES, VERSIONS)
@example("~=1.0", "1.3")
@example("~=1.4.0", "1.4.3")
@example(">1.4", "1.4.0")
def test_a_range_means_what_pep_440_says(text: str, version: str) -> None:
    if re.search(r"~=[0-9]+(,|$)", text):
        assert "needs a second number" in refusal_of(text)
    elif refusal_of(text):
        # In which no version is.
        assert not SpecifierSet(text).contains(version)
    else:
        assert FirmwareRange.parse(text).holds(version) == SpecifierSet(text).contains(version)


def refusal_of(text: str) -> str:
    try:
        FirmwareRange.parse(text)
    except ValueError as refusal:
        return str(refusal)
    return ""


# A version that no tested bound has lies between any two of them.
_BETWEEN = [".".join(map(str, n)) for a in range(5) for b in range(5) for n in ((a,), (a, b), (a, b, 0, 1), (a, b, 4))]


@given(RANGES, RANGES)
def test_ranges_overlap_exactly_where_a_version_is_in_both(one: str, other: str) -> None:
    assume(not refusal_of(one) and not refusal_of(other))
    first, second = FirmwareRange.parse(one), FirmwareRange.parse(other)
    three = [f"{v}.{c}{rest}" for v in _BETWEEN if v.count(".") == 1 for c in range(5) for rest in ("", ".1")]
    shared = any(first.holds(version) and second.holds(version) for version in [*_BETWEEN, *three])
    assert first.overlaps(second) == second.overlaps(first) == shared


@given(RANGES)
def test_every_firmware_overlaps_any(text: str) -> None:
    assume(not refusal_of(text))
    some = FirmwareRange.parse(text)
    assert FirmwareRange().overlaps(some)
    assert some.overlaps(FirmwareRange())


@pytest.mark.parametrize("firmware", ["", "v2", "2-beta", "2.", "٢", "1" * 5000, "1\n"])
def test_a_firmware_that_is_no_number_is_in_no_range(firmware: str) -> None:
    assert not FirmwareRange.parse(">=0").holds(firmware)
    assert FirmwareRange().holds(firmware)


@given(st.text(max_size=30))
@example(">=1,")
@example(">=1\n")
@example("~=1")
def test_a_text_that_is_no_range_is_told_what_would_be_right(text: str) -> None:
    assert re.search("^$|write|must be", refusal_of(text))
