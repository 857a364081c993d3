"""The power is cut while a damaged file is salvaged, too: at every step, and what it left is salvaged again."""

import random
import shutil
from pathlib import Path

import pytest

from gateway.spool import database
from gateway.spool.database import PAGE_BYTES
from gateway.spool.store import Spool
from gateway.spool.values import Boot, Identity
from tests.faults.power_cut.cuts import WAL_BYTES, drawn
from tests.faults.power_cut.disk import Disk, Files, Manner, Write
from tests.faults.power_cut.life import NAME
from tests.faults.power_cut.machine import Machine
from tests.gateway.spool.support import ANCHOR, GATEWAY, SMALL, body, copy_files, everything, opened, sealed

BATCHES = 40


def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """What a running gateway's power cut leaves, with a WAL that belongs to it; and pages of it are gone."""
    monkeypatch.setattr(database, "WAL_BYTES", WAL_BYTES)
    (tmp_path / "before").mkdir()
    with opened(tmp_path / "before" / NAME, SMALL) as spool:
        for n in range(BATCHES):
            sealed(spool, 1, n, size=4_000, seed=n)
        left = copy_files(tmp_path / "before" / NAME, tmp_path / "left")
    files = {path.name: path.read_bytes() for path in left.parent.iterdir()}
    data = bytearray(files[NAME])
    for page in range(60, 75):
        data[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = bytes(PAGE_BYTES)
    return {**files, NAME: bytes(data)}


def found(folder: Path, files: Files) -> dict[Identity, int]:
    """What can be sent once these files are opened, and its checksums."""
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    spool = Spool.open(folder / NAME, SMALL, Boot("after the cut", 5), None)
    spool.set_anchor(ANCHOR)
    crcs = {}
    for identity in everything(spool):
        batch = spool.load(identity, GATEWAY, 1)
        assert batch is not None
        crcs[identity] = batch.body.crc
    spool.close()
    shutil.rmtree(folder)
    return crcs


def test_a_power_cut_while_salvaging_loses_nothing_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = damaged(tmp_path, monkeypatch)
    readable = found(tmp_path / "whole", files)
    assert len(readable) > BATCHES // 2
    rng = random.Random(1)
    promised = dict(readable)
    promises: list[tuple[int, dict[Identity, int]]] = [(0, dict(readable))]
    with Machine.running(tmp_path / "machine", files) as machine:
        spool = Spool.open(machine.folder / NAME, SMALL, Boot("b", 1), None, drawn(rng))
        for n in range(3):
            fresh = body(2_000, 1_000 + n)
            identity = spool.append(fresh, 1, 10 + n, 11 + n)
            assert identity is not None
            promised[identity] = fresh.crc
            promises.append((len(machine.log), dict(promised)))
        spool.close()
        assert (machine.folder / f"{NAME}.corrupt-1").exists()
    disk = Disk()
    cuts = 0
    for at, operation in enumerate(machine.log.operations):
        # What is written to the new file counts for nothing before it is whole.
        if at and (not isinstance(operation, Write) or at % 60 == 0):
            for manner in (Manner.NOTHING, Manner.SOME, Manner.SOME, Manner.ALL):
                wanted = next(known for ended, known in reversed(promises) if ended <= at)
                crcs = found(tmp_path / "cut", disk.cut(manner, rng))
                assert wanted.items() <= crcs.items(), f"cut before {operation}, operation {at}: {manner.value}"
                cuts += 1
        disk.follow([operation])
    print(f"{cuts} cuts in {len(machine.log)} operations")
    assert cuts > 100
