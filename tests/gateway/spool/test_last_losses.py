"""What is lost in a stop is told by the next start: no loss ends in a memory that is gone."""

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.spool.errors import SpoolUnavailable
from gateway.spool.state import Loss
from gateway.spool.store import Spool
from tests.gateway.running import running, write_config
from tests.gateway.scripted_driver import Script
from tests.gateway.spool.support import opened


def test_a_loss_that_found_no_room_yet_is_written_before_the_stop_counts_as_clean(tmp_path: Path) -> None:
    path = tmp_path / "spool.sqlite3"
    with opened(path) as spool:
        spool._state = replace(spool._state, pending=(Loss("bound", None, 7, spool._boot, 1, spool._boot, 2),))
    with opened(path, now_us=1) as spool:
        assert spool.usage().whole_file.unsealed == {"bound": 7}


async def test_a_stop_that_gives_up_on_the_disk_is_told_as_unclean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk came back in time for the closing, the stop was marked as clean and the loss was silent."""

    def refuse(*_arguments: object, **_named: object) -> None:
        raise SpoolUnavailable("the disk does not answer")

    script = Script()
    with monkeypatch.context() as broken:
        broken.setattr(Spool, "append", refuse)
        broken.setattr("gateway.sealer._RETRY_LONGEST_S", 0.5)
        async with running(write_config(tmp_path, 9), script) as one:
            script.give("a", 1.5)
            await one.until(lambda report: report.readings == 1)
    with opened(tmp_path / "state" / "spool.sqlite3", now_us=1) as spool:
        assert spool._connection.execute("SELECT reason, readings FROM losses").fetchall() == [("unclean_stop", None)]
