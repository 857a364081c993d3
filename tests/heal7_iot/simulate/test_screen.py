"""What is seen of a fleet."""

import io
import json

import pytest
from rich.console import Console

from heal7_iot.simulate.fleet import Outcome, Progress
from heal7_iot.simulate.plan import Late, Plan
from heal7_iot.simulate.screen import JsonScreen, LiveScreen, PlainScreen, draw, summary, verdict

PROGRESS = Progress(12.3, True, 50, 48, 47, 2, 12_345, 12_000, 345, 67, 8, 90, 11, 0.0421, 1.25)
OUTCOME = Outcome(60.4, 1_795_262_400_000_000, 5_000, 4_990, 4, 6, 900, 3, 55, 5, 0.02, 0.05, 0.03, 12.0, 31.5)


@pytest.mark.parametrize("width", [72, 120])
def test_nothing_is_cut_off(width: int) -> None:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(draw(Plan(50, 4, 0.5, duration_s=60.0), PROGRESS))
    picture = capture.get()
    assert "…" not in picture
    for shown in ("50 gateways of 4 sensors", "12 of 60 s", "48 of 50", "2 in an outage", "12,345", "345", "67"):
        assert shown in picture
    for shown in ("p50 42 ms", "p95 1,250 ms", "11 reconnects", "90 attempts", "8 batches again"):
        assert shown in picture


def test_before_the_first_receipt_there_are_dashes() -> None:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(draw(Plan(), Progress(0, True, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, None, None)))
    assert "p50 –, p95 –" in capture.get()


def test_each_screen_suits_where_it_goes() -> None:
    plain, lines, live = io.StringIO(), io.StringIO(), io.StringIO()
    for screen in (
        PlainScreen(Console(file=plain, width=80)),
        JsonScreen(Console(file=lines, width=80)),
        LiveScreen(Console(file=live, width=80, force_terminal=True), Plan()),
    ):
        screen.show(PROGRESS)
        screen.show(PROGRESS)
        screen.close()
    assert plain.getvalue().count("\n") == 1
    assert "48 of 50 connected" in plain.getvalue()
    (line,) = lines.getvalue().splitlines()
    assert json.loads(line)["in_flight_batches"] == 67
    assert "Ctrl-C" in live.getvalue()


def test_the_outcome_says_whether_all_is_settled() -> None:
    assert verdict(OUTCOME).startswith("NOT ALL IS SETTLED: sealed 5,000 = settled 4,990 + dropped 4 + in flight 6")
    told = json.loads(json.dumps(summary(Plan(late=Late(0.1, 2.0)), OUTCOME)))
    assert (told["all_settled"], told["sealed"], told["plan"]["late"]["delay_s"]) == (False, 5_000, 2.0)
