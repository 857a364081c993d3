"""The decoder, against published advertisements and against our own encoder."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from device_drivers.ble.bthome import UNNUMBERED_REPEAT_S, UUIDS, V2_UUID, Advert, BTHomeDecoder, Heard, Refusal
from device_drivers.simulator import bthome
from tests.device_drivers.ble.conftest import ADDRESS
from tests.peers.needs import wants

KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
OTHER_KEY = bytes(16)
SECOND = 1_000_000

VECTORS = Path(__file__).resolve().parents[4] / "shared" / "vectors" / "ble_advertisements.json"


def published() -> list[Any]:
    if not VECTORS.exists():
        reason = wants("published advertisements", "../shared/vectors beside the repository is missing")
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="absent")]
    vectors = [vector for vector in json.loads(VECTORS.read_text()) if vector["decoder"] == "bthome-ble"]
    return [pytest.param(vector, id=vector["name"].removeprefix("bthome-ble:")) for vector in vectors]


def advert(data: bytes, at_us: int = 0, uuid: str = V2_UUID) -> Advert:
    return Advert(ADDRESS, -60, uuid, data, at_us)


def sealed(counter: int, **values: float) -> bytes:
    return bthome.encode_encrypted(values, bindkey=KEY, address=ADDRESS, counter=counter)


@pytest.mark.parametrize("vector", published())
def test_a_published_advertisement_means_what_is_published(vector: dict[str, Any]) -> None:
    binary_names = {"power": "power_on", "battery": "battery_low", "moisture": "moisture_detected"}
    expected: dict[str, float] = {}
    events = 0
    for said in vector["expected"]:
        quantity, value, unit = said["quantity"], said["value"], said["unit"]
        if unit == "event":
            events += 1
        elif unit == "bool":
            expected[binary_names.get(quantity, quantity)] = float(value)
        elif quantity != "packet_id":
            expected[quantity] = value / 1000 if unit == "mm" and quantity == "distance" else value
    key = bytes.fromhex(vector["bindkey"]) if "bindkey" in vector else None
    decoder = BTHomeDecoder(vector["address"], key)
    heard = decoder.decode(advert(bytes.fromhex(vector["service_data"]["fcd2"])))
    assert isinstance(heard, Heard)
    assert heard.values == pytest.approx(expected)
    assert (heard.events, heard.not_numbers) == (events, 0)


@given(
    temperature=st.integers(-32768, 32767),
    humidity=st.integers(0, 65535),
    motion=st.booleans(),
    packet_id=st.none() | st.integers(0, 255),
    counter=st.none() | st.integers(0, 2**32 - 1),
)
def test_what_the_simulator_encodes_is_decoded(
    temperature: int, humidity: int, motion: bool, packet_id: int | None, counter: int | None
) -> None:
    values = {"motion": float(motion), "humidity": humidity / 100, "temperature": temperature / 100}
    if counter is None:
        decoder, data = BTHomeDecoder(ADDRESS), bthome.encode(values, packet_id)
    else:
        decoder = BTHomeDecoder(ADDRESS, KEY)
        data = bthome.encode_encrypted(values, bindkey=KEY, address=ADDRESS, counter=counter, packet_id=packet_id)
    heard = decoder.decode(advert(data))
    assert isinstance(heard, Heard)
    assert heard.values == pytest.approx(values)


def test_every_channel_of_the_simulator_is_known_by_its_name() -> None:
    for channel in bthome.CHANNELS:
        assert BTHomeDecoder(ADDRESS).decode(advert(bthome.encode({channel: 1.0}))) == Heard({channel: 1.0})


def test_the_simulator_refuses_what_the_format_cannot_say() -> None:
    with pytest.raises(OverflowError):
        bthome.encode({"temperature": 400.0})
    with pytest.raises(KeyError):
        bthome.encode({"mood": 1.0})


def test_a_numbered_packet_is_one_measurement_however_long_it_is_repeated() -> None:
    decoder = BTHomeDecoder(ADDRESS)
    first, second = bthome.encode({"temperature": 21.5}, 7), bthome.encode({"temperature": 21.5}, 8)
    assert decoder.decode(advert(first)) == Heard({"temperature": 21.5})
    assert decoder.decode(advert(first, 1 * SECOND)) is Refusal.REPEATED
    assert decoder.decode(advert(first, 3600 * SECOND)) is Refusal.REPEATED
    assert decoder.decode(advert(second, 3601 * SECOND)) == Heard({"temperature": 21.5})


def test_a_packet_that_was_overtaken_is_no_measurement() -> None:
    decoder = BTHomeDecoder(ADDRESS)
    decoder.decode(advert(bthome.encode({"temperature": 21.5}, 8)))
    overtaken = advert(bthome.encode({"temperature": 21.4}, 7), SECOND)
    assert decoder.decode(overtaken) is Refusal.REPEATED


def test_without_a_number_time_tells_repeats_from_measurements() -> None:
    decoder = BTHomeDecoder(ADDRESS)
    data = bthome.encode({"motion": 0.0})
    window = int(UNNUMBERED_REPEAT_S * SECOND)
    assert decoder.decode(advert(data)) == Heard({"motion": 0.0})
    assert decoder.decode(advert(data, window - 1)) is Refusal.REPEATED
    assert decoder.decode(advert(data, window)) == Heard({"motion": 0.0})


def test_an_old_value_is_not_said_again_by_a_later_packet() -> None:
    decoder = BTHomeDecoder(ADDRESS)
    decoder.decode(advert(bthome.encode({"temperature": 21.5}, 1)))
    assert decoder.decode(advert(bthome.encode({"humidity": 40.0}, 2), SECOND)) == Heard({"humidity": 40.0})
    assert decoder.decode(advert(bytes.fromhex("4000033a01"), 2 * SECOND)) == Heard({}, events=1)


def test_keys() -> None:
    data = sealed(5, temperature=21.5)
    assert BTHomeDecoder(ADDRESS, KEY).decode(advert(data)) == Heard({"temperature": 21.5})
    assert BTHomeDecoder(ADDRESS, OTHER_KEY).decode(advert(data)) is Refusal.WRONG_KEY
    assert BTHomeDecoder(ADDRESS).decode(advert(data)) is Refusal.NO_KEY
    plain = bthome.encode({"temperature": 21.5})
    assert BTHomeDecoder(ADDRESS, KEY).decode(advert(plain)) is Refusal.PLAIN


def test_a_recording_is_refused_also_after_a_forgery() -> None:
    decoder = BTHomeDecoder(ADDRESS, KEY)
    assert isinstance(decoder.decode(advert(sealed(1000, motion=0))), Heard)
    assert isinstance(decoder.decode(advert(sealed(1001, motion=1), SECOND)), Heard)
    forged = bytearray(sealed(1002, motion=0))
    forged[-1] ^= 1
    assert decoder.decode(advert(bytes(forged), 2 * SECOND)) is Refusal.WRONG_KEY
    assert decoder.decode(advert(sealed(1000, motion=0), 3 * SECOND)) is Refusal.REPLAYED
    assert isinstance(decoder.decode(advert(sealed(0, motion=1), 4 * SECOND)), Heard), "a new battery starts at 0"


def test_units_of_one_quantity_are_one() -> None:
    millimetres, metres = bytes.fromhex("4040e803"), bytes.fromhex("40410a00")
    for data in (millimetres, metres):
        assert BTHomeDecoder(ADDRESS).decode(advert(data)) == Heard({"distance": 1.0})


def test_a_charge_is_not_a_warning() -> None:
    data = bytes.fromhex("4001" + "64" + "15" + "01")
    assert BTHomeDecoder(ADDRESS).decode(advert(data)) == Heard({"battery": 100.0, "battery_low": 1.0})


def test_texts_are_counted() -> None:
    assert BTHomeDecoder(ADDRESS).decode(advert(bytes.fromhex("4053024869"))) == Heard({}, not_numbers=1)


@pytest.mark.parametrize("data", ["", "40", "41", "4102", "40ff", "4002ca", "4000ff", "43a5808fe648"])
def test_undecodable(data: str) -> None:
    key = KEY if data.startswith(("41", "43")) else None
    assert BTHomeDecoder(ADDRESS, key).decode(advert(bytes.fromhex(data))) is Refusal.UNDECODABLE


@example(adverts=[(UUIDS[1], b"\x02\xf0\x00", 0)], key=None)
@given(
    adverts=st.lists(
        st.tuples(
            st.sampled_from(UUIDS),
            st.binary(max_size=3) | st.builds(bytes.__add__, st.sampled_from([b"@", b"A", b"B", b"C"]), st.binary()),
            st.integers(0, 10 * SECOND),
        ),
        max_size=8,
    ),
    key=st.none() | st.just(KEY),
)
def test_no_bytes_raise(adverts: list[tuple[str, bytes, int]], key: bytes | None) -> None:
    decoder = BTHomeDecoder(ADDRESS, key)
    for uuid, data, at_us in adverts:
        assert isinstance(decoder.decode(advert(data, at_us, uuid)), Heard | Refusal)
