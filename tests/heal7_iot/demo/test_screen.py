"""The picture fits the terminals that people have."""

import pytest
from rich.console import Console

from heal7_iot.demo.center import ROOMS
from heal7_iot.demo.observation import CommitLatency, RoomView, View
from heal7_iot.demo.screen import bar, draw
from ingest_server.storage.line.ledger import Books

_LATEST = {
    "temperature": 23.41,
    "humidity": 47.2,
    "carbon_dioxide": 1204.0,
    "pm2_5": 31.0,
    "illuminance": 1033.0,
    "motion": 1.0,
}
_BOOKS = Books("demo/gw-01", 1, 9000, 8000, 10, 20, 0, 970, 0, 0, True, 0)


def _picture(width: int, latest: dict[str, float], books: Books | None) -> str:
    rooms = tuple(RoomView(room, 12, 4, 20.84, latest, (400.0,) * 24) for room in ROOMS)
    view = View("day 2 14:05", 61.2, rooms, None, CommitLatency(), books, "sensors → gateway → server")
    console = Console(width=width)
    with console.capture() as capture:
        console.print(draw(view, width))
    return capture.get()


@pytest.mark.parametrize("width", [72, 80, 90, 100, 118, 120, 200])
def test_nothing_is_cut_off(width: int) -> None:
    picture = _picture(width, _LATEST, _BOOKS)
    assert "…" not in picture
    for shown in ("체험 스튜디오", "Experience studio", "23.4", "1,204", "20.8", "day 2 14:05", "balanced"):
        assert shown in picture
    assert ("▁" in picture) == (width >= 118)


def test_before_the_first_reading_there_are_dashes() -> None:
    picture = _picture(120, {}, None)
    assert "–" in picture
    assert "balanced" not in picture


def test_bars_grow_with_what_they_show_and_stay_within_theirs() -> None:
    bars = [bar(ppm) for ppm in (0, 400, 600, 900, 1299, 5000)]
    assert bars == sorted(bars)
    assert (bars[0], bars[-1]) == ("▁", "█")
