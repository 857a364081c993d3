"""kill -9 in the middle of appends, and files that were put back."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.link.ranges import RangeSet
from gateway.spool.values import Identity
from tests.gateway.spool.support import (
    GATEWAY,
    LEDGER,
    SMALL,
    WALL_S,
    Server,
    body,
    copy_files,
    epochs,
    everything,
    opened,
    sealed,
)

WRITER = """
import sys
from pathlib import Path
from gateway.spool.store import Spool
from gateway.spool.values import Boot, SpoolOptions
from tests.gateway.spool.support import ANCHOR, body

options = SpoolOptions(64 << 20, 3600.0, reserve_bytes=65536)
spool = Spool.open(Path(sys.argv[1]), options, Boot("b", int(sys.argv[2])), None)
spool.set_anchor(ANCHOR)
for n in range(1_000_000):
    identity = spool.append(body(1000 + n % 7 * 1000, n), n % 9 + 1, n, n + 1)
    print(identity.epoch, identity.seq, flush=True)
"""


@pytest.mark.parametrize("acked", [1, 13, 60])
def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, acked: int) -> None:
    path = tmp_path / "spool.sqlite"
    told: list[Identity] = []
    for start in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(start)], stdout=subprocess.PIPE, cwd=Path.cwd(), text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(acked):
                epoch, seq = writer.stdout.readline().split()
                told.append(Identity(int(epoch), int(seq)))
            writer.send_signal(signal.SIGKILL)
            # What it said before it died was committed, too.
            told += [Identity(*map(int, line.split())) for line in writer.stdout if line.endswith("\n")]
    server = Server()
    with opened(path, now_us=99) as spool:
        kept = everything(spool)
        assert set(told) <= set(kept)
        for identity in told:
            batch = spool.load(identity, GATEWAY, 1)
            assert batch is not None
            assert batch.body == body(1000 + identity.seq % 7 * 1000, identity.seq)
        server.drain(spool)
    assert [g.reason for g in server.gaps] == ["unclean_stop"] * 2
    assert all(ranges.spans() == 1 for ranges in server.settled.values())


def test_an_older_copy_of_the_file_reuses_no_identity(tmp_path: Path) -> None:
    path, draw = tmp_path / "spool.sqlite", epochs()
    server = Server()
    with opened(path, draw=draw) as spool:
        sealed(spool, 1, seed=1)
        old = copy_files(path, tmp_path / "card")
        later = [sealed(spool, 1, seed=n) for n in range(2, 5)]
        server.drain(spool)
    for _ in range(2):  # the card is cloned: the same moment goes on twice
        again = copy_files(old, tmp_path / "clone")
        with opened(again, draw=draw) as spool:
            identities = [sealed(spool, 1, seed=n) for n in range(7, 9)]
            assert not set(identities) & set(later)
            server.drain(spool)  # asserts that no identity has two bodies
            # The epoch of which the copy knows less than the server is settled as far as it goes.
            assert spool.books().epochs[0].held == RangeSet()


def test_drops_survive_with_their_gap_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    with opened(path, SMALL) as spool:
        for n in range(30):
            sealed(spool, 1, size=20_000, seed=n)
            left = copy_files(path, tmp_path / "cut")
            with opened(left, SMALL, now_us=n + 1) as after:
                server = Server()
                server.drain(after)
                (counted,) = (b for b in after.books().epochs if b.epoch == spool.epoch)
                assert server.settled[spool.epoch] == RangeSet.below(counted.next) == RangeSet.below(n + 1)
                assert server.committed + server.dropped == n + 1


def test_settled_and_taken_back_survive_a_cut(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite"
    with opened(path) as spool:
        identities = [sealed(spool, 1) for _ in range(5)]
        spool.apply_receipt(LEDGER, {spool.epoch: RangeSet.below(4)}, WALL_S)
        spool.take_back(spool.epoch, RangeSet([(1, 2)]))
        with opened(copy_files(path, tmp_path / "cut"), now_us=4) as after:
            assert everything(after) == [identities[1], identities[4]]
