"""What the sampler sees of real processes, and what is called flat."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.plot import draw
from bench.sampling import Gauge, Sampler, flatness, rss_flatness

_PATIENCE_S = 60.0


def _child() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def _wait(sampler: Sampler, pid: int, seen: bool) -> None:
    """Until the latest of two new samples has the child, or has it no more."""
    deadline_s = time.monotonic() + _PATIENCE_S
    before = len(sampler.samples)
    while time.monotonic() < deadline_s:
        if len(sampler.samples) > before + 1 and ("child" in sampler.samples[-1].processes) is seen:
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} was {'never' if seen else 'still'} sampled")


def test_a_process_that_is_started_again_keeps_its_name(tmp_path: Path) -> None:
    children = [_child()]
    running = True
    spool = tmp_path / "spool"
    spool.write_bytes(bytes(5_000_000))
    gauges = [
        Gauge("spool (MB)", "gw-1", lambda: spool.stat().st_size / 1e6),
        Gauge("in flight", "", lambda: None),
    ]
    with Sampler({"child": lambda: children[-1].pid if running else None}, gauges, 0.01) as sampler:
        try:
            _wait(sampler, children[-1].pid, True)
            sampler.mark("killed")
            children[-1].kill()
            # Not reaped yet: what is left of it takes nothing, and is not to look like a process of 0 bytes.
            _wait(sampler, children[-1].pid, False)
            children[-1].wait()
            children.append(_child())
            _wait(sampler, children[-1].pid, True)
        finally:
            running = False
            for child in children:
                child.kill()
                child.wait()
    seen = [sample.processes["child"] for sample in sampler.samples if "child" in sample.processes]
    assert all(one.rss_mb > 1 and one.fds >= 3 and one.threads == 1 for one in seen[-1:])
    assert {value for sample in sampler.samples for value in sample.gauges.values()} == {5.0}
    assert [sample.at_s for sample in sampler.samples] == sorted(sample.at_s for sample in sampler.samples)
    for name in ("picture.svg", "picture.png"):
        draw(sampler.samples, tmp_path / name, "a process that was killed", marks=sampler.marks)
        assert (tmp_path / name).stat().st_size > 1000
    assert "killed" in (tmp_path / "picture.svg").read_text()


def test_what_a_gauge_raises_is_raised_where_the_sampler_is_left() -> None:
    def broken() -> float:
        raise LookupError("no such table")

    def sample() -> None:
        with Sampler({}, [Gauge("rows", "", broken)], 0.01) as sampler:
            deadline_s = time.monotonic() + _PATIENCE_S
            while sampler.running and time.monotonic() < deadline_s:
                time.sleep(0.01)

    with pytest.raises(LookupError, match="no such table"):
        sample()


def test_growth_is_not_flat_and_noise_is() -> None:
    dice = random.Random(7)
    warming = [50 + min(n, 100) / 2 for n in range(300)]
    noisy = [value + dice.uniform(-5, 5) for value in warming]
    assert flatness(noisy).flat()
    assert not flatness([50 + n / 3 for n in range(300)]).flat()
    assert flatness([0.0] * 9).ratio == 1.0
    assert flatness([0.0] * 6 + [1.0] * 3).ratio == float("inf")
    with pytest.raises(ValueError, match="2 samples"):
        flatness([1.0, 2.0])
    with pytest.raises(ValueError, match="0 samples"):
        rss_flatness([], "server")


def test_nothing_sampled_is_said_and_not_drawn(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing was sampled"):
        draw([], tmp_path / "picture.svg", "nothing")
