"""What holds for the decoders of all families."""

import subprocess
import sys
from collections.abc import Mapping

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from device_drivers.ble.advert import Advert, uuid
from device_drivers.ble.families import FAMILIES, Family, recognised
from device_drivers.ble.heard import Heard, Refusal, Unknown
from device_drivers.simulator import atc, mibeacon, ruuvi, thermometers
from device_drivers.simulator.ble_sensor import BINDKEY, KINDS
from tests.device_drivers.ble.conftest import ADDRESS
from tests.device_drivers.ble.published import Published, published

VALUES = {"temperature": -5.3, "humidity": 48.0, "battery": 50.0, "voltage": 2.9, "pressure": 1003.2}
NAMES = ["", "GVH5075_2762", "Govee_H5074_1", "GV5112AC3D", "B51782BC8", "SensorPush HT.w 0CA1", "s", "sps", "iBBQ",
         "TP357 (1)", "TP960", "TP972", "ITH-11-B", "Ink@IAM-T2", "Ruuvi Air", "H5178"]  # fmt: skip


def decode(family: str, advert: Advert, key: bytes | None = None) -> Heard | Refusal | Unknown:
    return FAMILIES[family].open(ADDRESS, key).decode(advert)


def carrying(
    services: Mapping[int, bytes] | None = None, manufacturers: Mapping[int, bytes] | None = None, name: str = ""
) -> Advert:
    return Advert(ADDRESS, name, -60, {uuid(k): v for k, v in (services or {}).items()}, dict(manufacturers or {}))


def xiaomi(counter: int = 1, key: bytes | None = None, product: int = mibeacon.LYWSD03MMC) -> Advert:
    data = mibeacon.encode(VALUES | {}, address=ADDRESS, counter=counter, bindkey=key, product=product)
    return carrying({mibeacon.SERVICE: data})


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_the_simulator_encodes_is_decoded(kind: str) -> None:
    one = KINDS[kind]
    packet = one.encode({channel: VALUES[channel] for channel in one.channels}, ADDRESS, 700)
    advert = carrying(packet.services, packet.manufacturers, one.name or "")
    family = recognised(advert)
    assert family is not None
    assert family.name == kind.split("-")[0].replace("pvvx", "atc").replace("atc1441", "atc")
    heard = family.open(ADDRESS, one.bindkey).decode(advert)
    assert isinstance(heard, Heard)
    for channel in one.channels:
        assert heard.values[channel] == pytest.approx(VALUES[channel], abs=0.011), channel
    assert family.numbered(advert) is one.numbered


@pytest.mark.parametrize("kind", [kind for kind in sorted(KINDS) if KINDS[kind].updated])
def test_a_new_firmware_is_unknown_and_not_decoded_by_guess(kind: str) -> None:
    updated = KINDS[kind].updated
    assert updated is not None
    packet = updated({channel: VALUES[channel] for channel in KINDS[kind].channels}, ADDRESS, 1)
    advert = carrying(packet.services, packet.manufacturers)
    family = recognised(advert)
    assert family is not None
    unknown = family.open(ADDRESS, None).decode(advert)
    assert isinstance(unknown, Unknown)
    assert unknown.model or unknown.firmware


@pytest.mark.parametrize("kind", [kind for kind in sorted(KINDS) if KINDS[kind].bindkey])
def test_keys(kind: str) -> None:
    one = KINDS[kind]
    packet = one.encode({channel: VALUES[channel] for channel in one.channels}, ADDRESS, 5)
    advert = carrying(packet.services, packet.manufacturers)
    family = recognised(advert)
    assert family is not None
    assert family.keyed
    assert family.open(ADDRESS, None).decode(advert) is Refusal.NO_KEY
    assert family.open(ADDRESS, bytes(16)).decode(advert) is Refusal.UNAUTHENTIC
    plain = KINDS["pvvx" if kind == "pvvx-encrypted" else kind.removesuffix("-encrypted")]
    sent = plain.encode({channel: VALUES[channel] for channel in plain.channels}, ADDRESS, 6)
    assert family.open(ADDRESS, BINDKEY).decode(carrying(sent.services)) is Refusal.PLAIN


def test_goves_word_for_a_broken_probe_is_no_reading() -> None:
    sent = thermometers.encode_govee({"temperature": 21.3, "humidity": 40.0, "battery": 60.0}, error=True)
    assert decode("govee", carrying(None, sent, "GVH5075_1")) == Heard({"battery": 60}, "H5075", not_numbers=2)


def test_ruuvis_mark_for_no_counter_is_no_count() -> None:
    values = {"temperature": 21.3, "humidity": 40.0, "pressure": 1000.0, "voltage": 3.0}
    sent = {ruuvi.COMPANY: ruuvi.encode(values, address=ADDRESS, counter=1)}
    heard = decode("ruuvi", carrying(None, sent))
    assert isinstance(heard, Heard)
    assert "movement_counter" not in heard.values
    assert heard.not_numbers == 5  # it, and three axes with their sum
    counted = {ruuvi.COMPANY: ruuvi.encode(values | {"movement_counter": 254}, address=ADDRESS, counter=1)}
    heard = decode("ruuvi", carrying(None, counted))
    assert isinstance(heard, Heard)
    assert heard.values["movement_counter"] == 254


def test_xiaomi_tells_damage_from_strangers() -> None:
    assert decode("xiaomi", xiaomi(product=0x1234)) == Unknown("0x1234", "5")
    data = bytearray(xiaomi().services[uuid(mibeacon.SERVICE)])
    data[6] ^= 1
    assert decode("xiaomi", carrying({mibeacon.SERVICE: bytes(data)})) is Refusal.UNDECODABLE, "another's address"
    assert decode("xiaomi", carrying({mibeacon.SERVICE: b"\x30\x58"})) is Refusal.UNDECODABLE
    assert decode("xiaomi", carrying({mibeacon.SERVICE: bytes.fromhex("30585b0501b2188d38c1a408")})) in (
        Refusal.WITHOUT_VALUES,
        Refusal.UNDECODABLE,
    )
    assert decode("xiaomi", xiaomi(key=BINDKEY), bytes(12)) is Refusal.WRONG_KEY, "a key of the older version"
    sealed = xiaomi(key=BINDKEY).services[uuid(mibeacon.SERVICE)]
    decoder = FAMILIES["xiaomi"].open(ADDRESS, BINDKEY)
    for length, expected in ((19, Refusal.UNDECODABLE), (20, Refusal.UNAUTHENTIC)):
        cut = carrying({mibeacon.SERVICE: sealed[:length]})
        assert decoder.decode(cut) is expected, "before a good one"
        assert isinstance(decoder.decode(xiaomi(key=BINDKEY)), Heard)
        assert decoder.decode(cut) is expected, "and after it"


def test_atc_of_another_address_is_damage() -> None:
    sent = atc.encode_pvvx(VALUES, address="A4:C1:38:00:00:01", counter=1)
    assert decode("atc", carrying({atc.SERVICE: sent})) is Refusal.UNDECODABLE
    assert decode("atc", carrying({atc.SERVICE: b"\x01\x02"})) == Unknown()


def test_qingping_is_decoded_under_a_name_of_its_own() -> None:
    # Temperature 21.5 °C and humidity 48.0 % of a CGG1, the charge 80 %.
    data = bytes.fromhex("0816" + "b2188d38c1a4" + "0104d700e001" + "020150")
    sent = decode("qingping", carrying({0xFDCD: data}))
    assert sent == Heard({"temperature": 21.5, "humidity": 48.0, "battery": 80}, "Qingping CGG1")
    assert decode("qingping", carrying({0xFDCD: b"\x08\xee" + data[2:]})) == Unknown("Qingping 0xee")


def families() -> st.SearchStrategy[Family]:
    return st.sampled_from(list(FAMILIES.values()))


# The first of a family imports its library.
@settings(deadline=None)
@example(FAMILIES["ruuvi"], "", [(0x499, b"\x05" * 25)], None)
@given(
    families(),
    st.sampled_from(NAMES),
    st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=26)), max_size=3),
    st.none() | st.just(BINDKEY),
)
def test_no_bytes_raise(family: Family, name: str, said: list[tuple[int, bytes]], key: bytes | None) -> None:
    decoder = family.open(ADDRESS, key)
    for number, data in said:
        services = dict.fromkeys(family.services or (), data)
        companies = dict.fromkeys(family.companies or (), data) or {number: data}
        uuids = tuple(family.uuids)
        for advert in (
            Advert(ADDRESS, name, -60, services, companies, uuids),
            *(Advert(ADDRESS, name, -60, {text: data}, companies) for text in family.services or ()),
        ):
            assert isinstance(decoder.decode(advert), Heard | Refusal | Unknown)


@settings(deadline=None)
@given(st.data())
def test_no_damage_raises(draw: st.DataObject) -> None:
    vectors = [found.values[0] for found in published() if isinstance(found.values[0], Published)]
    if not vectors:
        return
    one = draw.draw(st.sampled_from(vectors))

    def damaged(data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(draw.draw(st.integers(0, 3))):
            changed[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
        return bytes(changed[: draw.draw(st.integers(0, len(data)))])

    family = recognised(one.advert)
    assert family is not None
    advert = one.advert._replace(
        services={key: damaged(data) for key, data in one.advert.services.items()},
        manufacturers={key: damaged(data) for key, data in one.advert.manufacturers.items()},
    )
    assert isinstance(family.open(advert.address, one.bindkey).decode(advert), Heard | Refusal | Unknown)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_loads_its_own_library_only(family: str) -> None:
    libraries = {"bthome", "xiaomi", "govee", "ruuvitag", "sensorpush", "thermopro", "inkbird", "qingping"}
    program = (
        "import sys; from device_drivers.ble.families import FAMILIES; import device_drivers.ble.driver;"
        f"assert not [name for name in {sorted(libraries)!r} if name + '_ble' in sys.modules];"
        f"FAMILIES[{family!r}].open('A4:C1:38:8D:18:B2', None);"
        f"print(*sorted(name for name in {sorted(libraries)!r} if name + '_ble' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == {"atc": "", "ruuvi": "ruuvitag"}.get(family, family)
