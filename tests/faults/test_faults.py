"""Faults by chance on the whole line: every sealed reading is in the table once, or a gap says that it is missing.

A failure prints its seed; `make soak SEED=…` injects the same faults in the same order.
"""

import shutil
from collections.abc import Iterator

import pytest

from tests.end_to_end.line import short_directory
from tests.faults.center import Center
from tests.faults.injected import kinds
from tests.faults.schedule import Injection, plan
from tests.peers.needs import wants


@pytest.fixture
def center() -> Iterator[Center]:
    directory = short_directory("faults")
    made: Center | None = None
    try:
        made = Center(directory)
        yield made
    finally:
        if made is not None:
            made.close()
        shutil.rmtree(directory)


def check_rounds(center: Center, seed: int, rounds: int, faults: int, longest_s: float) -> None:
    print(f"seed {seed}; again: make soak SEED={seed} MINUTES=1")
    injection = Injection(center, plan(center, seed, longest_s))
    center.wait("readings arrive", lambda: center.committed() > 100)
    for _ in range(rounds):
        before = center.committed()
        injection.inject(faults)
        verdict = center.settle()
        print(verdict)
        assert verdict.sound, verdict
        assert verdict.committed > before


@pytest.mark.slow
def test_faults_by_chance(center: Center, pytestconfig: pytest.Config) -> None:
    seed = int(pytestconfig.getoption("randomly_seed", default=7))
    check_rounds(center, seed, rounds=1, faults=12, longest_s=4.0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_every_kind_of_fault(center: Center, seed: int) -> None:
    if center.small_disk is None:
        pytest.skip(wants("the right to mount a tmpfs", "a disk that is really full is not tested"))
    check_rounds(center, seed, rounds=2, faults=len(kinds(center)), longest_s=8.0)
