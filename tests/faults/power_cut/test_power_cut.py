"""At every sync of a spool's life the power is cut; what that leaves is opened, drained and counted."""

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.faults.power_cut.cuts import PossibleCut, counted, cuts, drawn, recorded_life
from tests.faults.power_cut.disk import Cut, Link, Sync
from tests.faults.power_cut.judge import judge, judge_after_a_lie
from tests.faults.power_cut.life import DECK, NAME, Draw


def check_every_cut(
    tmp_path: Path, seed: int, *, rounds: int = 1, instead: dict[str, str] | None = None
) -> Counter[str]:
    """How many cuts were judged, by manner."""
    life = recorded_life(tmp_path / "machine", seed, rounds=rounds, instead=instead)
    assert life.happened == {what: rounds * times for what, times in DECK.items()}
    judged: Counter[str] = Counter()
    rng = random.Random(seed)
    for cut in cuts(life, seed):
        with told(seed, cut):
            judge(cut, tmp_path / "cut", life, rng)
        shutil.rmtree(tmp_path / "cut")
        judged[cut.manner.name.lower()] += 1
    syncs = sum(isinstance(operation, Sync) for operation in life.operations)
    print(f"seed {seed}: {judged.total()} cuts at {syncs} syncs in {len(life.operations)} operations: {dict(judged)}")
    return judged


@contextmanager
def told(seed: int, cut: PossibleCut) -> Iterator[None]:
    """A failure says where it was."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"seed {seed}: {cut}")
        raise


def test_a_life_holds_what_is_worth_cutting(tmp_path: Path) -> None:
    life = recorded_life(tmp_path / "machine", 1)
    files = {operation.file: operation.name for operation in life.operations if isinstance(operation, Link)}
    files.update((file, name) for cut in life.operations if isinstance(cut, Cut) for name, file, _ in cut.left)
    written_back = [o for o in life.operations if isinstance(o, Sync) and files[o.file] == NAME]
    assert len(written_back) > 10
    books = [moment.books[1].counters for moment in life.moments if moment.books[1] is not None]
    assert books[-1].dropped.keys() == {"bound", "too_large"}
    assert any(after.settled_readings < before.settled_readings for before, after in pairwise(books)), "taken back"
    known = life.moments[-1].after
    assert known.told.gaps
    assert known.gone.bodies


def test_a_power_cut_at_any_sync_loses_nothing(tmp_path: Path) -> None:
    assert check_every_cut(tmp_path, 1).total() > 200


def test_a_power_cut_in_a_life_by_chance_loses_nothing(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    seed = int(pytestconfig.getoption("randomly_seed", default=7))
    print(f"seed {seed}; again: pytest tests/faults/power_cut --randomly-seed={seed}")
    check_every_cut(tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 18))
def test_power_cuts_in_longer_lives_lose_nothing(tmp_path: Path, seed: int) -> None:
    check_every_cut(tmp_path, seed, rounds=3)


@pytest.mark.parametrize("level", ["NORMAL", "OFF"])
def test_the_cut_finds_a_spool_that_does_not_sync(tmp_path: Path, level: str) -> None:
    with pytest.raises(AssertionError, match=r"books of another time|is lost"):
        check_every_cut(tmp_path, 1, instead={"PRAGMA synchronous = FULL": f"PRAGMA synchronous = {level}"})


def check_a_disk_that_lies(tmp_path: Path, seed: int, draw: Draw) -> None:
    life = recorded_life(tmp_path / "machine", seed, draw=draw)
    rng = random.Random(seed)
    for cut in cuts(life, seed, every=4, lies=0.5):
        with told(seed, cut):
            judge_after_a_lie(cut, tmp_path / "cut", life, rng, draw)
        shutil.rmtree(tmp_path / "cut")


@pytest.mark.parametrize("seed", [1, 2])
def test_a_sequence_number_reused_after_a_power_cut(tmp_path: Path, seed: int) -> None:
    """A disk that says that it has synced, and has not, takes the file back by as much as it likes."""
    check_a_disk_that_lies(tmp_path, seed, drawn)


def test_an_epoch_that_is_counted_and_not_drawn_is_found_to_be_reused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="has two bodies"):
        check_a_disk_that_lies(tmp_path, 1, counted)
