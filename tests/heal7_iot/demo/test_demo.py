"""The whole line as a newcomer starts it, and every way in which it may end."""

import json
import signal
from pathlib import Path

import pytest

from tests.heal7_iot.demo.running import demonstration

_KEYS = {
    "readings_sealed",
    "readings_committed",
    "readings_quarantined",
    "readings_dropped",
    "duplicates",
    "rows_in_database",
    "commit_latency_ms_p50",
    "commit_latency_ms_p99",
}
_RUNNING = "day 1"
"""In the first line that tells of readings."""


def _figures(out: str) -> dict[str, object]:
    found = json.loads(out.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def _assert_balanced(figures: dict[str, object]) -> None:
    assert figures.keys() >= _KEYS
    assert figures["balanced"] is True
    assert figures["in_flight"] == figures["rows_twice"] == figures["presumed_lost"] == 0
    assert figures["readings_quarantined"] == figures["readings_dropped"] == figures["never_sealed"] == 0
    assert figures["readings_sealed"] == figures["readings_committed"] == figures["rows_in_database"]


def test_it_ends_by_itself_with_balanced_books() -> None:
    with demonstration("--duration", "8") as demo:
        demo.until(_RUNNING)
        code, out, err = demo.end()
        figures = _figures(out)
        assert (code, err) == (0, ""), figures
        _assert_balanced(figures)
        # 3 dust sensors give 12 readings a second each, 9 radios 9 a room: a loaded machine still hears half of it. The
        # others give less than as much again, radars with people before them included.
        assert 63 * 8 / 2 < int(str(figures["readings_sealed"])) < 2 * 63 * 10
        assert float(str(figures["commit_latency_ms_p99"])) >= float(str(figures["commit_latency_ms_p50"])) > 0
        assert demo.left_behind() == []


def test_without_mosquitto_and_dbus_daemon_ctrl_c_ends_it_in_order() -> None:
    with demonstration("--broker", "nats", "--bus", "python") as demo:
        demo.until(_RUNNING)
        names = {process.name() for process in demo.seen.values()}
        assert "nats-server" in names
        assert not names & {"mosquitto", "dbus-daemon"}
        demo.signal(signal.SIGINT)
        code, out, err = demo.end()
        assert (code, err) == (0, "")
        _assert_balanced(_figures(out))
        assert _figures(out)["broker"] == "nats"
        assert demo.left_behind() == []


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    with demonstration() as demo:
        demo.until(_RUNNING)
        # A gateway that hangs is what makes a person press it again.
        demo.part("gateway", "run").suspend()
        demo.signal(signal.SIGINT)
        demo.until("sensors stopped")
        demo.signal(signal.SIGINT)
        code, _, _ = demo.end()
        assert code == 128 + signal.SIGINT
        assert demo.left_behind() == []


@pytest.mark.parametrize(
    ("stage", "how"), [("starting PostgreSQL", signal.SIGINT), ("starting the gateway", signal.SIGTERM)]
)
def test_a_signal_before_it_runs_leaves_nothing(stage: str, how: signal.Signals) -> None:
    with demonstration() as demo:
        demo.until(stage)
        demo.signal(how)
        code, out, err = demo.end()
        assert (code, err) == (128 + how, "")
        assert "{" not in out
        assert demo.left_behind() == []


@pytest.mark.slow
def test_a_terminal_that_is_closed_ends_it() -> None:
    with demonstration() as demo:
        demo.until(_RUNNING)
        assert demo.process.stdout is not None
        demo.process.stdout.close()
        demo.signal(signal.SIGHUP)
        code, _, err = demo.end()
        assert (code, err) == (0, "")
        assert demo.left_behind() == []


@pytest.mark.slow
def test_a_part_that_dies_is_named_with_its_last_words_and_its_state_may_be_kept(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    with demonstration("--keep", str(kept)) as demo:
        demo.until(_RUNNING)
        demo.part("gateway", "run").kill()
        code, _, err = demo.end()
        assert code == 1
        assert "the gateway ended by itself with code -9" in err
        assert "connected to the broker" in err
        assert {path.name for path in kept.iterdir()} >= {"gateway.toml", "ingest.toml", "gateway.log", "gateway", "pg"}
        assert demo.left_behind() == []


def test_a_directory_that_exists_is_not_kept_into(tmp_path: Path) -> None:
    with demonstration("--keep", str(tmp_path)) as demo:
        code, _, err = demo.end()
        assert code == 2
        assert "exists already" in err
