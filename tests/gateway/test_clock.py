"""When wall time is believed, and what it is then."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.clock import RELEASED_S, SYSTEM_UNCERTAINTY_US, Clock, KernelClock, read_boot_id, read_kernel_clock
from gateway.link.anchor import Anchor, ClockSource
from tests.peers.needs import needs

NOW_NS = 1_800_000_000 * 10**9


class Times:
    """Clocks that a test sets."""

    def __init__(self) -> None:
        self.monotonic_ns = 5 * 10**9
        self.wall_ns = NOW_NS
        self.kernel = KernelClock(True, 1234)

    def clock(self, trust: str) -> Clock:
        assert trust in ("kernel", "system")
        return Clock(
            "kernel" if trust == "kernel" else "system",
            monotonic_ns=lambda: self.monotonic_ns,
            wall_ns=lambda: self.wall_ns,
            kernel=lambda: self.kernel,
        )


OFFSET_US = NOW_NS // 1000 - 5_000_000


def test_the_kernels_word_counts() -> None:
    times = Times()
    clock = times.clock("kernel")
    assert clock.read_anchor() == Anchor(OFFSET_US, 1234, ClockSource.KERNEL)
    assert clock.wall_s() == NOW_NS / 1e9


def test_an_unsynchronised_clock_dates_nothing() -> None:
    times = Times()
    times.kernel = KernelClock(False, 16_000_000)
    clock = times.clock("kernel")
    assert clock.read_anchor() is None
    assert clock.wall_s() is None


def test_a_trusted_system_clock_is_known_within_a_second() -> None:
    times = Times()
    times.kernel = KernelClock(False, 0)
    assert times.clock("system").read_anchor() == Anchor(OFFSET_US, SYSTEM_UNCERTAINTY_US, ClockSource.SYSTEM)


@pytest.mark.parametrize("trust", ["kernel", "system"])
def test_a_boot_in_1970_is_never_believed(trust: str) -> None:
    times = Times()
    times.wall_ns = 60 * 10**9
    clock = times.clock(trust)
    assert clock.read_anchor() is None
    times.wall_ns = NOW_NS  # the time arrives
    assert clock.read_anchor() is not None


def test_a_clock_that_loses_its_synchronisation_is_carried_on_with_growing_doubt() -> None:
    times = Times()
    clock = times.clock("kernel")
    assert clock.read_anchor() is not None
    times.kernel = KernelClock(False, 16_000_000)
    times.monotonic_ns += 1000 * 10**9
    times.wall_ns += 7777 * 10**9  # whatever it says now
    assert clock.read_anchor() == Anchor(OFFSET_US, 1234 + 500_000, ClockSource.KERNEL)


def test_an_interrupted_reading_of_both_clocks_is_repeated() -> None:
    # The first pair was interrupted for a second, the second was not.
    monotonic = iter([0, 10**9, 2 * 10**9, 2 * 10**9])
    wall = iter([NOW_NS, NOW_NS + 2 * 10**9])
    clock = Clock("system", monotonic_ns=lambda: next(monotonic), wall_ns=lambda: next(wall))
    assert clock.read_anchor() == Anchor(NOW_NS // 1000, SYSTEM_UNCERTAINTY_US, ClockSource.SYSTEM)


def test_the_kernel_of_this_machine_answers() -> None:
    kernel = read_kernel_clock()
    assert kernel.maxerror_us >= 0
    assert read_kernel_clock().synchronised is kernel.synchronised


def test_the_name_of_the_boot_is_read(tmp_path: Path) -> None:
    file = tmp_path / "boot_id"
    file.write_text("0f8fad5b-d9cb-469f-a165-70867728950e\n")
    assert read_boot_id(file) == "0f8fad5b-d9cb-469f-a165-70867728950e"
    assert read_boot_id() == read_boot_id()


@pytest.mark.parametrize(("when", "believed"), [("1970-01-01 00:01:00", False), ("2030-05-05 00:00:00", True)])
def test_a_whole_process_in_another_year(when: str, believed: bool) -> None:
    needs("faketime")
    program = "from gateway.clock import Clock; c = Clock('system'); print(c.read_anchor() is not None, c.now_us() > 0)"
    done = subprocess.run(
        ["faketime", "--exclude-monotonic", when, sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == [str(believed), "True"]


def test_the_release_date_is_past() -> None:
    import time

    assert time.time() > RELEASED_S
