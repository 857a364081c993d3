"""What a person sees: a live table on a terminal, a line now and then elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from heal7_iot.demo.observation import RoomView, View
from ingest_server.storage.line.ledger import Books

_PLAIN_EVERY_S = 5.0
_BARS = "▁▂▃▄▅▆▇█"
_CO2_LOW, _CO2_HIGH = 400.0, 1300.0  # ppm, the bounds of the bars
_CO2_STUFFY = 1000.0  # above it people complain (EN 13779, IDA 4)


class Screen(Protocol):
    """`step` tells of the long way to the first reading and back, `show` of the line that runs."""

    def step(self, text: str) -> None: ...
    def show(self, view: View) -> None: ...
    def close(self) -> None: ...


def screen_for(console: Console) -> Screen:
    """The one that suits where the output goes."""
    return LiveScreen(console) if console.is_terminal else PlainScreen(console)


class LiveScreen:
    """Redraws one table in place; what was on the terminal before stays there."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def step(self, text: str) -> None:
        self._console.print(Text(f"· {text}", style="dim"))

    def show(self, view: View) -> None:
        if self._live is None:
            # Refreshed by us alone: a thread that draws could meet a terminal that is gone, and nobody would know.
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(draw(view, self._console.width), refresh=True)

    def close(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()


class PlainScreen:
    """For logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._due_s = 1.0  # until then nothing has arrived that could be told

    def step(self, text: str) -> None:
        self._line(text)

    def show(self, view: View) -> None:
        if view.elapsed_s < self._due_s:
            return
        self._due_s = view.elapsed_s + _PLAIN_EVERY_S
        rooms = ", ".join(f"{r.room.key} {r.visitors} visitors {r.readings_per_s:.0f}/s" for r in view.rooms)
        books = "no books yet" if view.books is None else equation(view.books).plain
        self._line(f"{view.clock}: {rooms}; {books}")

    def close(self) -> None:
        """Nothing is open."""

    def _line(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)


def draw(view: View, width: int) -> Group:
    """The whole picture; a narrow terminal (width: its columns) gets the columns that matter most."""
    return Group(
        _heading(view),
        _rooms(view, width),
        _facts(view),
        Text("Ctrl-C 종료: ends it in order and shows the books of both ends", style="dim"),
    )


def _heading(view: View) -> Text:
    elapsed = f"{int(view.elapsed_s) // 60}:{int(view.elapsed_s) % 60:02d}"
    return Text.assemble(
        ("\nheal7-iot 데모 demo", "bold"), "   ", (f"☀ {view.clock}", "bold yellow"), (f"   running {elapsed}", "dim")
    )


@dataclass(frozen=True, slots=True)
class _Column:
    """from_width: of the terminal; a narrower one does without this column."""

    head: str
    cell: Callable[[RoomView], str | Text]
    from_width: int = 0
    min_width: int | None = None


def _rooms(view: View, width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption_justify="left")
    table.caption = "방문객은 모형의 값, 측정값은 DB에서 읽은 값 · visitors as simulated, measurements as read back"
    columns = [column for column in _COLUMNS if width >= column.from_width]
    for column in columns:
        justify: Literal["left", "right"] = "left" if column.min_width or column is _COLUMNS[0] else "right"
        table.add_column(column.head, justify=justify, no_wrap=True, min_width=column.min_width)
    for room in view.rooms:
        table.add_row(*(column.cell(room) for column in columns))
    return table


def _visitors(view: RoomView) -> Text:
    return Text(str(view.visitors), style="bold cyan" if view.visitors else "dim")


def _co2(view: RoomView) -> Text:
    ppm = view.latest.get("carbon_dioxide")
    return Text(_number(ppm, 0), style="red" if ppm is not None and ppm > _CO2_STUFFY else "")


def _motion(view: RoomView) -> str:
    moved = view.latest.get("motion")
    return "–" if moved is None else "●" if moved else "○"


_COLUMNS = (
    _Column("공간\nroom", lambda r: Text.assemble((r.room.korean, "bold"), "\n", (r.room.english, "dim"))),
    _Column("방문객\nvisitors", _visitors),
    _Column("기기\ndevices", lambda r: str(r.devices), 100),
    _Column("초당\nreadings/s", lambda r: f"{r.readings_per_s:.1f}"),
    _Column("온도\n°C", lambda r: _number(r.latest.get("temperature"), 1)),
    _Column("습도\n%", lambda r: _number(r.latest.get("humidity"), 0), 80),
    _Column("CO₂\nppm", _co2),
    _Column("CO₂ 추이\nlast 12 h", lambda r: Text("".join(map(bar, r.co2_history)), "green"), 118, 24),
    _Column("PM2.5\nµg/m³", lambda r: _number(r.latest.get("pm2_5"), 0)),
    _Column("조도\nlx", lambda r: _number(r.latest.get("illuminance"), 0), 72),
    _Column("움직임\nmotion", _motion, 90),
)


def bar(ppm: float) -> str:
    """One character, higher for more."""
    share = (ppm - _CO2_LOW) / (_CO2_HIGH - _CO2_LOW)
    return _BARS[min(len(_BARS) - 1, max(0, int(share * len(_BARS))))]


def _facts(view: View) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    grid.add_row("경로 line", view.way)
    if view.gateway is not None:
        spool = view.gateway.spool
        rate = sum(room.readings_per_s for room in view.rooms)
        grid.add_row("수집 intake", f"{rate:.1f} readings/s of {len(view.gateway.devices)} devices")
        grid.add_row(
            "스풀 spool",
            f"{spool.held_batches} batches, {spool.held_readings} readings, {spool.held_bytes:,} bytes"
            f" wait for the database; uplink: {view.gateway.uplink.session}",
        )
    p50, p99 = view.latency.commit_latency_ms_p50, view.latency.commit_latency_ms_p99
    grid.add_row("커밋 commit", f"latency p50 {_number(p50, 1)} ms, p99 {_number(p99, 1)} ms")
    grid.add_row("장부 books", "–" if view.books is None else equation(view.books))
    return grid


def equation(books: Books) -> Text:
    """The first promise, in readings."""
    text = Text(
        f"sealed {books.sealed:,} = committed {books.committed:,} + quarantined {books.quarantined:,}"
        f" + dropped {books.dropped:,} + lost {books.presumed_lost:,} + in flight {books.in_flight:,}  "
    )
    return text.append(*(("✔ balanced", "bold green") if books.balanced else ("✘ NOT BALANCED", "bold red")))


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"
