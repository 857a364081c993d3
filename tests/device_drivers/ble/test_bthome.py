"""The decoder of BTHome, against our own encoder."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_drivers.ble.advert import Advert, uuid
from device_drivers.ble.decoders.bthome import BTHomeDecoder
from device_drivers.ble.heard import Heard, Refusal, Unknown
from device_drivers.simulator import bthome
from tests.device_drivers.ble.conftest import ADDRESS

KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
OTHER_KEY = bytes(16)
SECOND = 1_000_000


def advert(data: bytes, at_us: int = 0) -> Advert:
    return Advert(ADDRESS, "", -60, {uuid(0xFCD2): data}, {}, taken_at_us=at_us)


def sealed(counter: int, **values: float) -> bytes:
    return bthome.encode_encrypted(values, bindkey=KEY, address=ADDRESS, counter=counter)


def says(values: dict[str, float], **counted: int) -> Heard:
    return Heard(values, "BTHome", "2", **counted)


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
        assert BTHomeDecoder(ADDRESS).decode(advert(bthome.encode({channel: 1.0}))) == says({channel: 1.0})


def test_the_simulator_refuses_what_the_format_cannot_say() -> None:
    with pytest.raises(OverflowError):
        bthome.encode({"temperature": 400.0})
    with pytest.raises(KeyError):
        bthome.encode({"mood": 1.0})


def test_a_packet_that_was_overtaken_is_no_measurement() -> None:
    decoder = BTHomeDecoder(ADDRESS)
    decoder.decode(advert(bthome.encode({"temperature": 21.5}, 8)))
    overtaken = advert(bthome.encode({"temperature": 21.4}, 7), SECOND)
    assert decoder.decode(overtaken) is Refusal.REPEATED


def test_an_old_value_is_not_said_again_by_a_later_packet() -> None:
    decoder = BTHomeDecoder(ADDRESS)
    decoder.decode(advert(bthome.encode({"temperature": 21.5}, 1)))
    assert decoder.decode(advert(bthome.encode({"humidity": 40.0}, 2), SECOND)) == says({"humidity": 40.0})
    assert decoder.decode(advert(bytes.fromhex("4000033a01"), 2 * SECOND)) == says({}, events=1)


def test_keys() -> None:
    data = sealed(5, temperature=21.5)
    assert BTHomeDecoder(ADDRESS, KEY).decode(advert(data)) == says({"temperature": 21.5})
    assert BTHomeDecoder(ADDRESS, OTHER_KEY).decode(advert(data)) is Refusal.UNAUTHENTIC
    assert BTHomeDecoder(ADDRESS).decode(advert(data)) is Refusal.NO_KEY
    plain = bthome.encode({"temperature": 21.5})
    assert BTHomeDecoder(ADDRESS, KEY).decode(advert(plain)) is Refusal.PLAIN


def test_a_recording_is_refused_also_after_a_forgery() -> None:
    decoder = BTHomeDecoder(ADDRESS, KEY)
    assert isinstance(decoder.decode(advert(sealed(1000, motion=0))), Heard)
    assert isinstance(decoder.decode(advert(sealed(1001, motion=1), SECOND)), Heard)
    forged = bytearray(sealed(1002, motion=0))
    forged[-1] ^= 1
    assert decoder.decode(advert(bytes(forged), 2 * SECOND)) is Refusal.UNAUTHENTIC
    assert decoder.decode(advert(sealed(1000, motion=0), 3 * SECOND)) is Refusal.REPLAYED
    assert isinstance(decoder.decode(advert(sealed(0, motion=1), 4 * SECOND)), Heard), "a new battery starts at 0"


def test_units_of_one_quantity_are_one() -> None:
    millimetres, metres = bytes.fromhex("4040e803"), bytes.fromhex("40410a00")
    for data in (millimetres, metres):
        assert BTHomeDecoder(ADDRESS).decode(advert(data)) == says({"distance": 1.0})


def test_a_charge_is_not_a_warning() -> None:
    data = bytes.fromhex("4001" + "64" + "15" + "01")
    assert BTHomeDecoder(ADDRESS).decode(advert(data)) == says({"battery": 100.0, "battery_low": 1.0})


def test_texts_are_counted() -> None:
    assert BTHomeDecoder(ADDRESS).decode(advert(bytes.fromhex("4053024869"))) == says({}, not_numbers=1)


@pytest.mark.parametrize("data", ["", "40", "41", "4102", "40ff", "4002ca", "4000ff", "43a5808fe648"])
def test_undecodable(data: str) -> None:
    key = KEY if data.startswith(("41", "43")) else None
    assert BTHomeDecoder(ADDRESS, key).decode(advert(bytes.fromhex(data))) is Refusal.UNDECODABLE


def test_other_versions_are_unknown() -> None:
    assert BTHomeDecoder(ADDRESS).decode(advert(b"\x60\x00")) == Unknown("BTHome", "3")
    first = Advert(ADDRESS, "", -60, {uuid(0x181C): b"\x23\x02\xca\x09"}, {})
    assert BTHomeDecoder(ADDRESS).decode(first) == Unknown("BTHome", "1")
