"""Which advertisements say something new, over adapters that hear the same sensor with different delays."""

import random

import pytest

from device_drivers.ble.advert import Advert, uuid
from device_drivers.ble.arrivals import OVERTAKEN_S, UNNUMBERED_REPEAT_S, Arrivals
from device_drivers.ble.families import FAMILIES
from device_drivers.ble.heard import Refusal
from device_drivers.simulator import bthome, thermometers
from tests.device_drivers.ble.conftest import ADDRESS

BTHOME = uuid(bthome.SERVICE)


class Heard:
    """A device of some family; times in seconds."""

    def __init__(self, family: str = "bthome") -> None:
        self.arrivals = Arrivals(FAMILIES[family])

    def bthome(self, at_s: float, adapter: str = "hci0", packet_id: int | None = None, **values: float) -> bool:
        data = bthome.encode(values or {"motion": 0.0}, packet_id)
        return self.news(at_s, adapter, {BTHOME: data}) is not None

    def news(
        self,
        at_s: float,
        adapter: str = "hci0",
        services: dict[str, bytes] | None = None,
        manufacturers: dict[int, bytes] | None = None,
    ) -> Advert | None:
        at_us = round(at_s * 1e6)
        advert = Advert(ADDRESS, "", -60, services or {}, manufacturers or {}, (), adapter, at_us)
        found = self.arrivals.news(advert)
        return found if isinstance(found, Advert) else None


def test_a_numbered_packet_is_one_measurement_however_long_it_is_repeated() -> None:
    heard = Heard()
    assert heard.bthome(0, packet_id=7, temperature=21.5)
    assert not heard.bthome(1, packet_id=7, temperature=21.5)
    assert not heard.bthome(3600, packet_id=7, temperature=21.5)
    assert heard.bthome(3601, packet_id=8, temperature=21.5)


def test_without_a_number_time_tells_repeats_from_measurements() -> None:
    heard = Heard()
    assert heard.bthome(0)
    assert not heard.bthome(UNNUMBERED_REPEAT_S - 0.001)
    assert heard.bthome(UNNUMBERED_REPEAT_S)


def test_what_goes_to_and_fro_is_news_each_time() -> None:
    heard = Heard()
    assert [heard.bthome(n / 10, motion=float(n % 2)) for n in range(6)] == [True] * 6


def test_a_second_adapter_brings_nothing_new() -> None:
    heard = Heard()
    for n in range(6):
        assert heard.bthome(n, "hci0", motion=float(n % 2))
        assert not heard.bthome(n + 0.1, "hci1", motion=float(n % 2))


def test_an_adapter_that_is_packets_behind_brings_nothing_new() -> None:
    heard = Heard()
    assert [heard.bthome(n / 10, "hci0", motion=float(n % 2)) for n in range(6)] == [True] * 6
    assert [heard.bthome(n / 10 + 0.6, "hci1", motion=float(n % 2)) for n in range(6)] == [False] * 6


def test_either_adapter_may_be_first_and_the_other_may_die() -> None:
    heard = Heard()
    assert heard.bthome(0, "hci1", 1)
    assert not heard.bthome(0.1, "hci0", 1)
    assert heard.bthome(10, "hci0", 2)
    assert heard.bthome(20, "hci0", 3)
    assert not heard.bthome(20.1, "hci1", 3)


def test_a_packet_that_was_overtaken_is_not_new() -> None:
    heard = Heard()
    assert heard.bthome(0, "hci0", 1)
    assert heard.bthome(1, "hci0", 2)
    assert not heard.bthome(OVERTAKEN_S - 1, "hci1", 1)


def test_a_sensor_that_restarts_may_say_the_same_again() -> None:
    heard = Heard()
    assert heard.bthome(0, "hci0", 1)
    assert heard.bthome(1, "hci0", 2)
    assert heard.bthome(1 + OVERTAKEN_S, "hci0", 1)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_read_twice_or_lost_by_chance(seed: int) -> None:
    """Two adapters that miss and repeat packets by chance: each number is news once if anybody heard it."""
    rng = random.Random(seed)
    heard, at_s = Heard(), 0.0
    arrivals: list[tuple[float, str, int]] = []
    for number in range(200):
        at_s += 5.0
        for adapter in ("hci0", "hci1"):
            times = rng.choice([0, 1, 1, 3])
            arrivals += [(at_s + rng.uniform(0, 4.9), adapter, number) for _ in range(times)]
    arrivals.sort()
    news = [number for at, adapter, number in arrivals if heard.bthome(at, adapter, number, temperature=20.0)]
    assert news == sorted({number for _, _, number in arrivals})


def test_what_the_family_does_not_read_may_change() -> None:
    heard = Heard()
    data = bthome.encode({"motion": 1.0})
    found = heard.news(0, services={BTHOME: data}, manufacturers={0x0BA9: b"\1"})
    assert found is not None
    assert (found.services, found.manufacturers) == ({BTHOME: data}, {})
    assert heard.news(1, services={BTHOME: data}, manufacturers={0x0BA9: b"\2"}) is None


def test_other_formats_are_told() -> None:
    heard = Heard()
    advert = Advert(ADDRESS, "", -60, {uuid(0x180A): b"\1"}, {})
    assert heard.arrivals.news(advert) is Refusal.OTHER_FORMAT


def test_of_what_bluez_gathers_only_the_change_is_news() -> None:
    """ThermoPro's numbers of companies are measurements: the old ones stay in BlueZ's dictionary."""
    heard = Heard("thermopro")
    gathered: dict[int, bytes] = {}
    said = []
    for n, temperature in enumerate((20.0, 20.1, 20.2)):
        packet = thermometers.encode_thermopro({"temperature": temperature, "humidity": 40.0, "battery": 100.0})
        gathered |= packet
        found = heard.news(10.0 * n, manufacturers=dict(gathered))
        assert found is not None
        said.append(found.manufacturers)
        assert found.manufacturers == packet
    assert len(gathered) == 3


def test_what_was_gathered_before_we_listened_is_ambiguous() -> None:
    arrivals = Arrivals(FAMILIES["thermopro"])
    both = thermometers.encode_thermopro({"temperature": 20.0, "humidity": 40.0, "battery": 100.0})
    both |= thermometers.encode_thermopro({"temperature": 30.0, "humidity": 40.0, "battery": 100.0})
    advert = Advert(ADDRESS, "TP357", -60, {}, both, (), "hci0", 0)
    assert arrivals.news(advert) is Refusal.AMBIGUOUS
    assert arrivals.news(advert) is Refusal.AMBIGUOUS
    third = thermometers.encode_thermopro({"temperature": 25.0, "humidity": 40.0, "battery": 100.0})
    found = arrivals.news(advert._replace(manufacturers=both | third))
    assert isinstance(found, Advert)
    assert found.manufacturers == third
