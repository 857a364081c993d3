"""The faults, each by name: how it begins and how it heals.

A maker draws all that is left to chance from the generator it is given when the fault is planned, so that a seed gives
the same faults whatever happens meanwhile.
"""

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.faults.center import (
    CLOCK_IS_READ_S,
    OWN_CLOCK,
    SENSORS_OF_ONE_LINE,
    SMALL_BOUND_BYTES,
    SMALL_DISK,
    Center,
    Daemon,
    Gateway,
    Worker,
)
from tests.faults.overfull import overfill

Maker = Callable[[Center, Random], "Fault"]


def _nothing() -> None:
    """Heals by itself."""


@dataclass(frozen=True, slots=True)
class Fault:
    """touches: parts that no other fault may touch before this one has healed."""

    what: str
    touches: frozenset[str]
    begin: Callable[[], None]
    heal: Callable[[], None] = _nothing


# -- processes ------------------------------------------------------------------------------------------------------


def _one_gateway(center: Center, rng: Random) -> Gateway:
    return rng.choice(center.gateways)


def _killed(daemon: Daemon) -> Fault:
    return Fault(f"kill -9 {daemon.name}", frozenset({daemon.name}), daemon.kill, daemon.start)


def _frozen(daemon: Daemon) -> Fault:
    def signalled(number: int) -> Callable[[], None]:
        return lambda: daemon.signal(number) if daemon.running else None

    return Fault(
        f"freeze {daemon.name}", frozenset({daemon.name}), signalled(signal.SIGSTOP), signalled(signal.SIGCONT)
    )


def kill_gateway(center: Center, rng: Random) -> Fault:
    return _killed(_one_gateway(center, rng))


def kill_worker(center: Center, rng: Random) -> Fault:
    return _killed(rng.choice(center.workers[:2]))


def kill_broker(center: Center, _: Random) -> Fault:
    """It keeps nothing on disk: its memory is gone."""
    return Fault("kill -9 broker, memory lost", frozenset({"broker"}), center.broker.kill, center.broker.start)


def kill_database(center: Center, _: Random) -> Fault:
    return Fault("kill -9 database", frozenset({"database"}), center.postgres.kill, center.postgres.start)


def freeze_gateway(center: Center, rng: Random) -> Fault:
    return _frozen(_one_gateway(center, rng))


def freeze_worker(center: Center, rng: Random) -> Fault:
    return _frozen(rng.choice(center.workers[:2]))


def freeze_broker(center: Center, _: Random) -> Fault:
    def signalled(number: int) -> Callable[[], None]:
        return lambda: os.kill(center.broker.pid, number)

    return Fault("freeze broker", frozenset({"broker"}), signalled(signal.SIGSTOP), signalled(signal.SIGCONT))


def freeze_database(center: Center, _: Random) -> Fault:
    def signalled(number: int) -> Callable[[], None]:
        return lambda: os.killpg(center.postgres.pid, number)

    return Fault("freeze database", frozenset({"database"}), signalled(signal.SIGSTOP), signalled(signal.SIGCONT))


def stop_gateway(center: Center, rng: Random) -> Fault:
    gateway = _one_gateway(center, rng)
    return Fault(f"stop {gateway.name}", frozenset({gateway.name}), gateway.terminate, gateway.start)


def stop_worker(center: Center, rng: Random) -> Fault:
    worker = rng.choice(center.workers[:2])
    return Fault(f"stop {worker.name}", frozenset({worker.name}), worker.terminate, worker.start)


def change_workers(center: Center, _: Random) -> Fault:
    """The third one comes or goes, and stays so."""
    worker = center.workers[2]

    def change() -> None:
        if worker.running:
            worker.terminate()
        else:
            worker.start()

    return Fault("add or remove a worker", frozenset({worker.name}), change)


def stop_database(center: Center, rng: Random) -> Fault:
    mode = rng.choice(("fast", "immediate"))
    return Fault(
        f"stop database ({mode})", frozenset({"database"}), lambda: center.postgres.stop(mode), center.postgres.start
    )


def reload_gateway(center: Center, rng: Random) -> Fault:
    """SIGHUP with a driver changed, which is then restarted."""
    gateway = _one_gateway(center, rng)
    patience_s = rng.randint(5, 60)

    def change() -> None:
        lines = [line for line in gateway.config.read_text().splitlines() if not line.startswith("silence_s")]
        gateway.config.write_text("\n".join([*lines, f"silence_s = {patience_s}", ""]))
        if gateway.report() is not None:  # before that it has no handler for the signal yet
            gateway.signal(signal.SIGHUP)

    return Fault(f"reload {gateway.name}", frozenset({gateway.name}), change)


def exchange_sensor(center: Center, rng: Random) -> Fault:
    """Another one on the same line: SIGHUP with a device that the database has never heard of."""
    gateway = _one_gateway(center, rng)
    return Fault(f"exchange a sensor of {gateway.name}", frozenset({gateway.name}), lambda: _exchange_sensor(gateway))


def _exchange_sensor(gateway: Gateway) -> None:
    config = gateway.config.read_text()
    found = re.search(r'device = "air-\d+-(\d+)"', config)
    assert found is not None
    number = int(found[1]) + 1
    if number < SENSORS_OF_ONE_LINE and gateway.report() is not None:
        gateway.config.write_text(config[: found.start(1)] + str(number) + config[found.end(1) :])
        gateway.signal(signal.SIGHUP)


# -- links ----------------------------------------------------------------------------------------------------------


def cut_link(center: Center, rng: Random) -> Fault:
    name, link = rng.choice(sorted(center.links.items(), key=lambda item: item[0]))
    return Fault(f"cut {name}", frozenset({name}), lambda: center.proxy.cut(link), lambda: center.proxy.mend(link))


def stall_link(center: Center, rng: Random) -> Fault:
    name, link = rng.choice(sorted(center.links.items(), key=lambda item: item[0]))
    ways = rng.choice((("up",), ("down",), ("up", "down")))
    return Fault(
        f"stall {name} {' and '.join(ways)}",
        frozenset({name}),
        lambda: center.proxy.stall(link, *ways),
        lambda: center.proxy.mend(link),
    )


def half_open_link(center: Center, rng: Random) -> Fault:
    name, link = rng.choice(sorted(center.links.items(), key=lambda item: item[0]))
    lost = rng.choice(("server", "client"))
    return Fault(
        f"half-open {name}, lost by the {lost}",
        frozenset({name}),
        lambda: center.proxy.half_open(link, lost),
        lambda: center.proxy.mend(link),
    )


def delay_link(center: Center, rng: Random) -> Fault:
    name, link = rng.choice(sorted(center.links.items(), key=lambda item: item[0]))
    seconds = rng.uniform(0.02, 0.5)
    return Fault(
        f"delay {name} by {seconds:.2f} s",
        frozenset({name}),
        lambda: center.proxy.delay(link, seconds),
        lambda: center.proxy.mend(link),
    )


_READINGS, _SERIES = b"COPY iot_service.sensor_readings", b"INSERT INTO iot_service.series "
"""What a transaction says that writes readings, and one that registers their series."""
_COMMITS_WITHIN_S = 5.0


def _arm(workers: Sequence[Worker], where: str | None, of: bytes = b"", *, silently: bool = False) -> None:
    for worker in workers:
        trap = worker.trap
        trap.armed, trap.of, trap.silently = where, of, silently


def _wait_sprung(workers: Sequence[Worker], before: int) -> None:
    deadline = time.monotonic() + _COMMITS_WITHIN_S
    while sum(worker.trap.sprung for worker in workers) == before and time.monotonic() < deadline:
        time.sleep(0.01)


def cut_commit(center: Center, rng: Random) -> Fault:
    """Of readings, or of whatever comes first."""
    worker, where = rng.choice(center.workers[:2]), rng.choice(("before", "after"))
    of = rng.choice((_READINGS, _READINGS, b""))
    return Fault(
        f"cut {worker.name} {where} its COMMIT {'of readings ' if of else ''}reaches the database",
        frozenset({f"{worker.name} to database"}),
        lambda: _arm([worker], where, of),
        lambda: _arm([worker], None),
    )


def kill_in_commit(center: Center, rng: Random) -> Fault:
    """Between the COMMIT of readings and its answer: kill -9 of who waits for it."""
    worker, where = rng.choice(center.workers[:2]), rng.choice(("before", "after"))

    def begin() -> None:
        before = worker.trap.sprung
        _arm([worker], where, _READINGS, silently=True)
        _wait_sprung([worker], before)
        worker.kill()
        _arm([worker], None)

    return Fault(
        f"kill -9 {worker.name} {where} its COMMIT reaches the database",
        frozenset({worker.name, f"{worker.name} to database"}),
        begin,
        worker.start,
    )


def cut_registration(center: Center, rng: Random) -> Fault:
    """Whichever worker first hears of a new sensor is cut off when it registers it."""
    gateway, where = _one_gateway(center, rng), rng.choice(("before", "before", "after"))

    def begin() -> None:
        before = sum(worker.trap.sprung for worker in center.workers)
        _arm(center.workers, where, _SERIES)
        _exchange_sensor(gateway)
        _wait_sprung(center.workers, before)
        _arm(center.workers, None)

    return Fault(
        f"exchange a sensor of {gateway.name}, and cut {where} the COMMIT of its series reaches the database",
        frozenset({gateway.name, *(f"{worker.name} to database" for worker in center.workers)}),
        begin,
    )


# -- the broker's manners -------------------------------------------------------------------------------------------


def damage_batches(center: Center, rng: Random) -> Fault:
    """A bit of each batch that passes is flipped, as by bad memory on the way."""
    gateway, seed = _one_gateway(center, rng), rng.randrange(2**32)

    def noise(value: Random | None) -> Callable[[], None]:
        def work() -> None:
            gateway.tap.noise = value

        return work

    return Fault(
        f"flip a bit of each batch that {gateway.name} sends",
        frozenset({f"{gateway.name} to broker"}),
        noise(Random(seed)),
        noise(None),
    )


def redeliver_batches(center: Center, rng: Random) -> Fault:
    """At least once is what MQTT promises: each batch several times at once, to the same worker and to others."""
    gateway, copies = _one_gateway(center, rng), rng.randint(2, 6)

    def repeat(value: int) -> Callable[[], None]:
        def work() -> None:
            gateway.tap.copies = value

        return work

    return Fault(
        f"deliver {copies} times what {gateway.name} sends",
        frozenset({f"{gateway.name} to broker"}),
        repeat(copies),
        repeat(1),
    )


def forget_batches(center: Center, rng: Random) -> Fault:
    """Acknowledged in the broker's name, and gone."""
    gateway = _one_gateway(center, rng)

    def forgetful(value: bool) -> Callable[[], None]:
        def work() -> None:
            gateway.tap.forgetful = value

        return work

    return Fault(
        f"acknowledge and forget what {gateway.name} sends",
        frozenset({f"{gateway.name} to broker"}),
        forgetful(True),
        forgetful(False),
    )


def overflow_queue(center: Center, _: Random) -> Fault:
    """No worker takes anything: the broker's queue is full after some 30 batches a worker, and drops what comes."""
    frozen = [_frozen(worker) for worker in center.workers]

    def begin() -> None:
        for one in frozen:
            one.begin()
        dropped = center.replayer.overflowed
        deadline = time.monotonic() + 8
        while center.replayer.overflowed <= dropped and time.monotonic() < deadline:
            time.sleep(0.1)

    def heal() -> None:
        for one in frozen:
            one.heal()

    return Fault("overflow the broker's queue", frozenset({w.name for w in center.workers}), begin, heal)


def repeat_messages(center: Center, rng: Random) -> Fault:
    """Batches, receipts and statuses once more, in another order, some many times."""
    seed, count = rng.randrange(2**32), rng.randint(5, 60)

    def begin() -> None:
        chance = Random(seed)
        heard = center.replayer.some()
        for topic, payload in chance.choices(heard, k=count) if heard else ():
            center.replayer.publish(topic, payload)

    return Fault(f"repeat {count} old messages", frozenset({"repeat"}), begin)


# -- the spool's file -----------------------------------------------------------------------------------------------


_UNSENT_S = 1.5
"""Damage finds batches that nobody else has: the link is cut for so long before."""


def _damage(gateway: Gateway, what: str, center: Center, damage: Callable[[], None]) -> Fault:
    def begin() -> None:
        center.proxy.cut(gateway.link)
        time.sleep(_UNSENT_S)
        gateway.kill()
        shutil.rmtree(center.copy_spool(gateway, endangered=True).parent)
        damage()

    def heal() -> None:
        gateway.start()
        center.proxy.mend(gateway.link)

    return Fault(f"{what} the spool of {gateway.name}", _parts_of_spool(gateway), begin, heal)


def _parts_of_spool(gateway: Gateway) -> frozenset[str]:
    disk = {"disk"} if gateway.number == SMALL_DISK else set()
    return frozenset({gateway.name, f"{gateway.name} to broker"} | disk)


def _put_back(gateway: Gateway, copy: Path) -> None:
    for file in gateway.state.glob("spool.sqlite3*"):
        file.unlink()
    for file in copy.parent.glob("spool.sqlite3*"):
        shutil.copy2(file, gateway.state / file.name)


def truncate_spool(center: Center, rng: Random) -> Fault:
    share, gateway = rng.random(), _one_gateway(center, rng)

    def damage() -> None:
        if gateway.spool.exists():
            os.truncate(gateway.spool, int(gateway.spool.stat().st_size * share))

    return _damage(gateway, "truncate", center, damage)


def flip_bits(center: Center, rng: Random) -> Fault:
    gateway, bits = _one_gateway(center, rng), [(rng.random(), rng.randrange(8)) for _ in range(rng.randint(1, 20))]
    wal = rng.random() < 0.3

    def damage() -> None:
        path = gateway.spool.with_name(gateway.spool.name + "-wal") if wal else gateway.spool
        if not path.exists() or not path.stat().st_size:
            return
        content = bytearray(path.read_bytes())
        for share, bit in bits:
            content[int(share * len(content))] ^= 1 << bit
        path.write_bytes(content)

    return _damage(gateway, f"flip {len(bits)} bits in", center, damage)


def roll_back_spool(center: Center, rng: Random) -> Fault:
    """To a copy that is older by some time, as a restored image is."""
    gateway, later_s = _one_gateway(center, rng), rng.uniform(0.5, 4)

    def begin() -> None:
        gateway.kill()
        older = center.copy_spool(gateway)
        gateway.start()
        time.sleep(later_s)
        center.proxy.cut(gateway.link)
        time.sleep(_UNSENT_S)
        gateway.kill()
        shutil.rmtree(center.copy_spool(gateway, endangered=True).parent)
        if older.exists():
            _put_back(gateway, older)
        shutil.rmtree(older.parent)

    def heal() -> None:
        gateway.start()
        center.proxy.mend(gateway.link)

    return Fault(f"roll the spool of {gateway.name} back by {later_s:.1f} s", _parts_of_spool(gateway), begin, heal)


def reimage_gateway(center: Center, rng: Random) -> Fault:
    gateway = _one_gateway(center, rng)

    def damage() -> None:
        for file in gateway.state.iterdir():
            file.unlink()

    return _damage(gateway, "throw away", center, damage)


def reach_bound(center: Center, rng: Random) -> Fault:
    """More than the spool may hold while nothing settles: of what goes, some has arrived, though nobody said so."""
    gateway, seed, beyond = center.gateways[SMALL_DISK], rng.randrange(2**32), rng.uniform(1.1, 1.6)

    def begin() -> None:
        center.proxy.stall(gateway.link, "down")
        time.sleep(_UNSENT_S)
        center.proxy.cut(gateway.link)
        time.sleep(_UNSENT_S)
        gateway.terminate()
        shutil.rmtree(center.copy_spool(gateway).parent)
        overfill(center, gateway, int(SMALL_BOUND_BYTES * beyond), Random(seed))
        gateway.start()

    return Fault(
        f"outgrow the spool of {gateway.name} {beyond:.1f} times",
        _parts_of_spool(gateway),
        begin,
        lambda: center.proxy.mend(gateway.link),
    )


_FIRST_SPOOL_S = 20.0


def fill_disk(center: Center, _: Random) -> Fault:
    """Every byte of the small disk, for as long as this lasts."""
    gateway = center.gateways[SMALL_DISK]
    filler, reserve = gateway.state / "filler", gateway.spool.with_name(gateway.spool.name + ".reserve")

    def fill() -> None:
        with filler.open("ab", buffering=0) as file:
            size = 65536
            while size:
                try:
                    if file.write(bytes(size)) < size:
                        size //= 2
                except OSError:
                    size //= 2

    def begin() -> None:
        # One that has no spool yet, its disk having just been exchanged, cannot make one here: it says so and ends,
        # for systemd to try again, which is not here.
        deadline = time.monotonic() + _FIRST_SPOOL_S
        while not reserve.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        if not reserve.exists():
            return
        fill()
        # The spool gives its reserve back: that is taken, too.
        time.sleep(1)
        fill()

    return Fault(f"fill the disk of {gateway.name}", frozenset({"disk"}), begin, lambda: filler.unlink(missing_ok=True))


# -- the clock ------------------------------------------------------------------------------------------------------

_JUMPS_S = (-86_400, -3600, -61, -1, 1, 59, 240, 3600, 86_400)


def jump_clock(center: Center, rng: Random) -> Fault:
    """And back. What a clock that is ahead of the server's dates is quarantined, and accounted for as that."""
    gateway, offset_s = center.gateways[OWN_CLOCK], rng.choice(_JUMPS_S)

    def begin() -> None:
        gateway.set_clock(offset_s)
        time.sleep(CLOCK_IS_READ_S)

    return Fault(
        f"move the clock of {gateway.name} by {offset_s:+} s",
        frozenset({"clock"}),
        begin,
        lambda: gateway.set_clock(0),
    )


def boot_in_1970(center: Center, _: Random) -> Fault:
    """A board without a battery: the time is heard later."""
    gateway = center.gateways[OWN_CLOCK]

    def begin() -> None:
        gateway.kill()
        gateway.set_clock(60 - int(time.time()))
        gateway.start()

    return Fault(
        f"boot {gateway.name} in 1970", frozenset({gateway.name, "clock"}), begin, lambda: gateway.set_clock(0)
    )


EVERYWHERE: dict[str, Maker] = {
    "kill gateway": kill_gateway,
    "kill worker": kill_worker,
    "kill broker": kill_broker,
    "kill database": kill_database,
    "freeze gateway": freeze_gateway,
    "freeze worker": freeze_worker,
    "freeze broker": freeze_broker,
    "freeze database": freeze_database,
    "stop gateway": stop_gateway,
    "stop worker": stop_worker,
    "change workers": change_workers,
    "stop database": stop_database,
    "reload gateway": reload_gateway,
    "exchange sensor": exchange_sensor,
    "cut link": cut_link,
    "stall link": stall_link,
    "half-open link": half_open_link,
    "delay link": delay_link,
    "cut commit": cut_commit,
    "kill in commit": kill_in_commit,
    "cut registration": cut_registration,
    "forget batches": forget_batches,
    "overflow queue": overflow_queue,
    "repeat messages": repeat_messages,
    "damage batches": damage_batches,
    "redeliver batches": redeliver_batches,
    "reach bound": reach_bound,
    "truncate spool": truncate_spool,
    "flip bits": flip_bits,
    "roll back spool": roll_back_spool,
    "re-image gateway": reimage_gateway,
}
ON_A_SMALL_DISK: dict[str, Maker] = {"fill disk": fill_disk}
WITH_ITS_OWN_CLOCK: dict[str, Maker] = {"jump clock": jump_clock, "boot in 1970": boot_in_1970}


CALM = (
    *(kind for kind in EVERYWHERE if kind.split()[0] in ("freeze", "cut", "stall", "half-open", "delay")),
    *("kill broker", "kill database", "stop database", "forget batches", "overflow queue", "repeat messages"),
    "reload gateway",
)
"""Faults that leave our own processes running: what these take can then be followed over the whole run."""


KINDS = (*EVERYWHERE, *ON_A_SMALL_DISK, *WITH_ITS_OWN_CLOCK)
"""All of them. Without the right to mount, or without faketime, some cannot be injected."""


def kinds(center: Center) -> dict[str, Maker]:
    """What can be injected here."""
    return (
        EVERYWHERE
        | (ON_A_SMALL_DISK if center.small_disk is not None else {})
        | (WITH_ITS_OWN_CLOCK if center.gateways[OWN_CLOCK].clock is not None else {})
    )
