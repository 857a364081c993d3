"""Every emulated serial sensor is read by its real driver, and each fault shows as it is documented."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from device_drivers.driver import Driver
from device_drivers.errors import LinkLost
from device_drivers.reading import Reading
from device_drivers.registry import DRIVER_KINDS
from device_drivers.serial_line.codecs import STREAM_CODECS
from device_drivers.simulator.attached import Attached, Line
from device_drivers.simulator.sensor import EmulatedSensor
from device_drivers.simulator.serial_models import Ld2410, Scd30, Sps30
from device_drivers.simulator.serial_sensors import EMULATED, configuration, emulated
from firmware_profiles.selection import ProfileSet
from tests.device_drivers.serial_line.terminals import HandClock

SENDING = sorted(name for name, kind in EMULATED.items() if kind.kind in (*STREAM_CODECS, "line"))


class Seconds:
    """The sensor's own time."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Bench:
    """One sensor, its line and the driver that reads it. All time of the sensor passes by hand."""

    sensor: EmulatedSensor
    attached: Attached
    seconds: Seconds
    driver: Driver
    readings: AsyncIterator[Sequence[Reading]]

    def pass_s(self, by_s: float) -> None:
        self.seconds.now_s += by_s
        self.attached.send_due()

    async def following(self) -> dict[str, Reading]:
        """The next readings; a sensor that sends does so first."""
        self.pass_s(2.0)
        async with asyncio.timeout(20):
            return {reading.series.channel: reading for reading in await anext(self.readings)}

    async def booting(self) -> dict[str, Reading]:
        """The next readings of a sensor that hears two requests while it boots, and answers the third."""

        async def heard() -> None:
            for _ in range(2):
                self.attached.was_heard.clear()
                await self.attached.was_heard.wait()
            self.seconds.now_s += 2.0

        async with asyncio.timeout(20):
            waiting = asyncio.create_task(heard())
            found = {reading.series.channel: reading for reading in await anext(self.readings)}
            await waiting
        return found


def table(name: str, line: Line, silence_s: float, timeout_s: float) -> dict[str, object]:
    table = configuration(name, "hall", line.port)
    if name in SENDING:
        return table | {"silence_s": silence_s}
    if table["kind"] != "modbus":
        return table | {"timeout_s": timeout_s, "interval_s": 0.5}
    table["device"][0]["interval_s"] = 0.1
    return table | {"timeout_s": timeout_s}


@asynccontextmanager
async def reading(name: str, line: Line, *, silence_s: float = 10.0, timeout_s: float = 5.0) -> AsyncIterator[Bench]:
    seconds, profiles = Seconds(), ProfileSet.load()
    sensor = emulated(name, profiles, seed=7)
    attached = Attached(line, sensor, now_s=seconds)
    sensor.due_s(seconds.now_s)  # powered now, and past its boot and warm-up when it is read
    seconds.now_s += 60.0
    kind = DRIVER_KINDS[EMULATED[name].kind]
    opened = kind.open(
        kind.options.model_validate(table(name, line, silence_s, timeout_s)),
        profiles,
        lambda: round(1e6 * seconds.now_s),
    )
    async with opened as driver:
        if EMULATED[name].kind == "line":
            line.write(b"\n")
        yield Bench(sensor, attached, seconds, driver, driver.readings())


def values(found: dict[str, Reading]) -> dict[str, float]:
    return {channel: reading.value for channel, reading in found.items()}


@pytest.mark.parametrize("name", EMULATED)
async def test_its_real_driver_reads_it(line: Line, name: str) -> None:
    """What it measures is what is read, to within what the sensor can say."""
    async with reading(name, line) as bench:
        found = values(await bench.following())
        assert not any(bench.driver.faults.values())
    usual = EMULATED[name].usual
    assert found.keys() & usual.keys(), "at least one of its channels"
    for channel, (middle, swing) in usual.items():
        if channel in found:
            assert middle - swing - 0.5 <= found[channel] <= middle + swing + 0.5


@pytest.mark.parametrize("name", EMULATED)
def test_the_same_seed_says_the_same(name: str) -> None:
    profiles = ProfileSet.load()

    def said(seed: int) -> list[bytes]:
        sensor = emulated(name, profiles, seed)
        sensor.faults.noise = 0.3
        return [sensor.sent(float(second)) for second in range(200)]

    assert said(1) == said(1)
    if name in SENDING:
        assert said(1) != said(2)


@pytest.mark.parametrize("name", EMULATED)
async def test_silence_is_counted_or_loses_the_line(line: Line, name: str) -> None:
    async with reading(name, line, silence_s=1.0, timeout_s=0.2) as bench:
        await bench.following()
        bench.sensor.faults.silent = True
        with pytest.raises(LinkLost, match=r"silent for 1 s|without a reply|no unit answers"):
            await bench.following()
        assert bench.driver.faults.get("unanswered", 3) == 3


@pytest.mark.parametrize("name", sorted(set(SENDING) - {"ld2410", "ld2450", "climate-node"}))
async def test_noise_on_a_line_with_a_checksum_is_counted_and_never_read(line: Line, name: str) -> None:
    async with reading(name, line) as bench:
        await bench.following()
        bench.sensor.faults.noise = 1.0
        for _ in range(10):
            bench.pass_s(1.0)
        bench.sensor.faults.noise = 0.0
        found = await bench.following()
        usual = EMULATED[name].usual
        assert all(abs(r.value - usual[c][0]) <= usual[c][1] + 1 for c, r in found.items() if c in usual)
        assert sum(bench.driver.faults.values()) > 0


@pytest.mark.parametrize("name", ["mhz19b", "sps30", "xy-md02", "scd30"])
async def test_a_damaged_answer_is_no_answer(line: Line, name: str) -> None:
    async with reading(name, line, timeout_s=0.2) as bench:
        before = values(await bench.following())
        bench.sensor.faults.noise = 1.0
        with pytest.raises(LinkLost):
            await bench.following()
        faults = bench.driver.faults
        assert faults["unanswered"] == 3
        assert faults["stray_bytes"] + faults["bad_checksums"] > 0
    assert before


@pytest.mark.parametrize("name", ["ld2410", "ld2450"])
async def test_noise_of_a_radar_gives_damage_or_something_plausible(line: Line, name: str) -> None:
    """It has no checksum: what passes is within what a radar can say, and the rest is counted."""
    async with reading(name, line) as bench:
        bench.sensor.faults.noise = 0.5
        for _ in range(200):
            bench.pass_s(0.1)
            await asyncio.sleep(0)
        bench.sensor.faults.noise = 0.0
        quiet_us = round(1e6 * bench.seconds.now_s) + 2_000_000
        while (found := list((await bench.following()).values()))[0].taken_at_us < quiet_us:
            assert all(0 <= reading.value <= 800 for reading in found)
        assert bench.driver.faults["bad_checksums"] > 0
        assert bench.driver.faults["skipped_bytes"] > 0


@pytest.mark.parametrize("name", EMULATED)
async def test_a_stuck_sensor_repeats_itself(line: Line, name: str) -> None:
    async with reading(name, line) as bench:
        await bench.following()
        bench.sensor.faults.stuck = True
        held = values(await bench.following())
        for _ in range(3):
            bench.pass_s(60.0)
            # Of what was sent meanwhile, each says the same.
            again = values(await bench.following())
            assert again == held


@pytest.mark.parametrize("name", ["sds011", "mhz19b", "scd30", "climate-node"])
def test_drift_grows_with_time(name: str) -> None:
    profiles = ProfileSet.load()
    right, drifting = (emulated(name, profiles, seed=3) for _ in range(2))
    drifting.faults.drift_per_h = 0.1
    for sensor in (right, drifting):
        sensor.due_s(0.0)
    shares = []
    for hour in (1, 2, 3):
        pairs = [(a, b) for a, b in zip(_measured(right, hour), _measured(drifting, hour), strict=True)]
        shares.append(sum(b / a for a, b in pairs) / len(pairs))
    assert shares == pytest.approx([1.1, 1.21, 1.331], abs=1e-9)


def _measured(sensor: EmulatedSensor, hour: int) -> list[float]:
    return list(sensor._values(hour * 3600.0).values())


async def test_sps30_forgets_that_it_measures_and_is_told_again(line: Line) -> None:
    async with reading("sps30", line) as bench:
        await bench.following()
        bench.sensor.reboot(bench.seconds.now_s)
        assert isinstance(bench.sensor.model, Sps30)
        assert not bench.sensor.model.is_measuring
        with pytest.raises(LinkLost, match="it does not measure"):
            await bench.following()
    async with reading("sps30", line) as bench:
        assert "pm2_5" in await bench.following()


async def test_scd30_forgets_what_it_was_told_and_is_told_again(line: Line) -> None:
    """It boots for two seconds in silence, which is how a gateway knows."""
    async with reading("scd30", line, timeout_s=0.8) as bench:
        model = bench.sensor.model
        assert isinstance(model, Scd30)
        before = await bench.following()
        assert before["carbon_dioxide"].series.firmware == "3.66"
        assert model.written == [(0x36, 0)]
        bench.sensor.reboot(bench.seconds.now_s)
        found = values(await bench.booting())
        assert model.written == [(0x36, 0), (0x36, 0)]
    assert found["carbon_dioxide"] > 400


async def test_scd30_that_was_cut_off_between_two_questions_says_nothing_but_noughts(line: Line) -> None:
    """What is not noticed, and documented: nobody asked it while it booted, and all its numbers are 0."""
    async with reading("scd30", line) as bench:
        await bench.following()
        bench.sensor.reboot(bench.seconds.now_s)
        bench.seconds.now_s += 2.0
        assert set(values(await bench.following()).values()) == {0.0}


async def test_pms5003_counts_too_little_until_its_fan_has_settled(line: Line) -> None:
    async with reading("pms5003", line) as bench:
        warm = values(await bench.following())["pm2_5"]
        bench.sensor.reboot(bench.seconds.now_s)
        assert values(await bench.following())["pm2_5"] < warm / 2
        bench.pass_s(60.0)
        await bench.following()
        assert values(await bench.following())["pm2_5"] > warm / 2


@pytest.mark.parametrize(
    ("name", "known", "unknown"),
    [("pms5003", "145", "7"), ("sps30", "2.3", "3.0"), ("climate-node", "1.3", "2.0")],
)
async def test_new_firmware_is_read_by_its_profile_or_kept_raw(line: Line, name: str, known: str, unknown: str) -> None:
    for firmware, is_known in ((known, True), (unknown, False)):
        async with reading(name, line) as bench:
            bench.sensor.update(firmware, bench.seconds.now_s - 60.0)
            found = await bench.following()
            (stated,) = {reading.series.firmware for reading in found.values()}
            assert stated == firmware
            assert (set(found) != {"raw"}) == is_known


async def test_new_firmware_of_scd30_is_noticed_when_it_comes_back(line: Line) -> None:
    async with reading("scd30", line, timeout_s=0.8) as bench:
        await bench.following()
        bench.sensor.update("4.1", bench.seconds.now_s)
        found = await bench.booting()
        assert {reading.series.firmware for reading in found.values()} == {"4.1"}


def test_new_firmware_of_a_sensor_that_does_not_state_it_is_refused() -> None:
    with pytest.raises(ValueError, match="Ld2410 does not state its firmware"):
        EmulatedSensor(Ld2410(), lambda _: {}).update("2", 0.0)


async def test_units_of_one_bus_answer_for_themselves_alone(line: Line) -> None:
    profiles = ProfileSet.load()
    climate, carbon = (emulated(name, profiles) for name in ("xy-md02", "scd30"))
    seconds = Seconds()
    Attached(line, climate, carbon, now_s=seconds)
    climate.due_s(seconds.now_s), carbon.due_s(seconds.now_s)
    seconds.now_s += 60.0
    tables = [configuration(name, name, line.port) for name in ("xy-md02", "scd30")]
    both = tables[0] | {"timeout_s": 5, "device": [table["device"][0] | {"interval_s": 0.1} for table in tables]}
    kind = DRIVER_KINDS["modbus"]
    async with kind.open(kind.options.model_validate(both), profiles, HandClock()) as driver:
        readings = driver.readings()
        found = {reading.series.device for _ in range(4) for reading in await anext(readings)}
        assert not any(driver.faults.values())
    assert found == {"xy-md02", "scd30"}
