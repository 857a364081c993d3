"""Advertisements as bytes to be kept."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_drivers.ble.advert import Advert, frame, parse, uuid
from device_drivers.errors import ProtocolError
from tests.device_drivers.ble.conftest import ADDRESS

UUIDS = st.one_of(
    st.integers(0, 0xFFFF).map(uuid),
    st.integers(0x10000, 0xFFFFFFFF).map(lambda n: f"{n:08x}-0000-1000-8000-00805f9b34fb"),
    st.uuids().map(str),
)
ADVERTS = st.builds(
    Advert,
    st.just(ADDRESS),
    st.text(max_size=20),
    st.just(0),
    st.dictionaries(UUIDS, st.binary(max_size=200), max_size=3),
    st.dictionaries(st.integers(0, 0xFFFF), st.binary(max_size=200), max_size=3),
    st.lists(UUIDS.filter(lambda text: "-" in text), max_size=2).map(tuple),
)


def test_it_is_what_is_on_the_air() -> None:
    advert = Advert(ADDRESS, "tps", -60, {uuid(0xFCD2): b"\x40\x02\xca\x09"}, {0x0499: b"\x05"}, (uuid(0xFFF0),))
    assert frame(advert).hex() == "0409747073" + "0303f0ff" + "0716d2fc4002ca09" + "04ff990405"


@given(ADVERTS)
def test_round_trip(advert: Advert) -> None:
    kept = parse(ADDRESS, frame(advert))
    assert kept.services == advert.services
    assert kept.manufacturers == advert.manufacturers
    assert kept.name == advert.name
    # A listed UUID of 32 bits is kept in full.
    assert kept.uuids == advert.uuids


@given(st.binary(max_size=60))
def test_other_bytes_raise_only_protocol_errors(data: bytes) -> None:
    with suppress(ProtocolError):
        parse(ADDRESS, data)


@pytest.mark.parametrize("data", ["00", "05ff9904", "02ff99", "0201", "020300"])
def test_no_advertisement(data: str) -> None:
    with pytest.raises(ProtocolError):
        parse(ADDRESS, bytes.fromhex(data))
