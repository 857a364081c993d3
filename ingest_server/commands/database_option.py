"""What commands on a database share: how it is named, how its errors are told, how tables are shown."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from gateway.link.config_file import EXIT_CONFIG
from ingest_server.errors import StorageError
from ingest_server.storage.connection import Connection, connect, dsn_fault
from ingest_server.storage.registry.places import NoSuchThing
from ingest_server.storage.schema.migrations import require_current

EXIT_FAILED = 1
EXIT_NOT_WRITTEN = 74
"""As EX_IOERR of sysexits.h."""
EXIT_INTERRUPTED = 130
"""As shells tell of a command that SIGINT ended."""
_STATEMENT_TIMEOUT_S = 60.0

Dsn = Annotated[
    str,
    typer.Option(
        "--dsn",
        envvar="HEAL7_IOT_DSN",
        help="Database, e.g. 'host=/run/postgresql dbname=heal7' or postgresql://user@host/heal7.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, for programs.")]

_PIPE_COLUMNS = 1_000

_T = TypeVar("_T")


def on_database(
    dsn: str,
    work: Callable[[Connection], Awaitable[_T]],
    *,
    current: bool = True,
    statement_timeout_s: float = _STATEMENT_TIMEOUT_S,
    interrupted: str | None = None,
) -> _T:
    """Runs `work` on a connection; a database that is away or outdated is one line on standard error, and exit 1.

    interrupted: what whoever presses Ctrl-C is to know.
    """

    fault = dsn_fault(dsn)
    if fault is not None:
        typer.echo(f"database: {fault}", err=True)
        raise typer.Exit(EXIT_CONFIG)

    async def run() -> _T:
        connection = await connect(dsn, "command", statement_timeout_s)
        try:
            if current:
                await require_current(connection)
            return await work(connection)
        finally:
            await connection.close()

    try:
        return asyncio.run(run())
    except NoSuchThing as error:
        # No fault of the database's, but of what was asked.
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_FAILED) from error
    except StorageError as error:
        typer.echo(f"database: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from error
    except KeyboardInterrupt as error:
        typer.echo("interrupted" if interrupted is None else f"interrupted: {interrupted}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from error


def show_json(value: Any) -> None:
    """Dataclasses, or lists of them, as JSON."""
    with _written():
        typer.echo(json.dumps(value, default=_plain, ensure_ascii=False))


@contextmanager
def _written() -> Iterator[None]:
    """What is printed; a disk that is full behind it ends the command with a code of its own: 1 is an answer."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        typer.echo(f"standard output: {error.strerror or error}", err=True)
        # Else Python tries again at its end, and says so in its own words.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_NOT_WRITTEN) from error


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table for a person, or, where its words would not fit beside each other, an entry after the other.

    A column that says nothing in any row is left out.
    """
    said = [n for n in range(len(columns)) if not rows or any(row[n] not in (None, "") for row in rows)]
    columns, rows = [columns[n] for n in said], [[row[n] for n in said] for row in rows]
    cells = [["" if cell is None else f"{cell:,}" if type(cell) is int else str(cell) for cell in row] for row in rows]
    numeric = [bool(rows) and all(isinstance(row[n], int | float) for row in rows) for n in range(len(columns))]
    console = Console()
    if not console.is_terminal:
        # Into a pipe or a file: folded to 80 columns, no word that `grep` looks for would be whole.
        console.width = _PIPE_COLUMNS
    with _written():
        # Without its lines, and then with one blank between columns, it may just fit.
        for lines, padding in ((box.HEAVY_HEAD, 1), (box.SIMPLE_HEAD, 1), (box.SIMPLE_HEAD, 0)):
            table = Table(title=Text(title), title_justify="left", box=lines, padding=(0, padding))
            if lines is box.SIMPLE_HEAD:
                table.pad_edge, table.collapse_padding, table.show_edge = False, True, False
            for column, is_numeric in zip(columns, numeric, strict=True):
                table.add_column(column, justify="right" if is_numeric else "left", overflow="fold")
            for row in cells:
                # As they are: gateways give names, and brackets would be taken for markup.
                table.add_row(*map(Text, row))
            needed = _width(console, table)
            # So close together, what is folded could not be told from what stands beside it.
            if (needed.minimum if padding else needed.maximum) <= console.width:
                console.print(table)
                return
        _show_entries(console, title, columns, cells)


def _width(console: Console, table: Table) -> Measurement:
    """At least, with its cells folded between words; and at most, with each in one line."""
    return Measurement.get(console, console.options.update(max_width=_PIPE_COLUMNS), table)


def show_rows(title: str, rows: Sequence[Mapping[str, object]], as_json: bool) -> None:
    """What a list is, as JSON or as a table with the rows' own names."""
    if as_json:
        show_json(rows)
    elif rows:
        show_table(title, list(rows[0]), [list(row.values()) for row in rows])
    else:
        typer.echo(f"no {title} yet")


def refuse(fault: str) -> NoReturn:
    """Ends the command for a mistake on its command line: one line that says what would be right, and exit 2."""
    typer.echo(fault, err=True)
    raise typer.Exit(EXIT_CONFIG)


def _show_entries(console: Console, title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    wide = max(map(len, columns))
    console.print(title, style="italic", markup=False, highlight=False)
    for row in cells:
        console.print()
        for column, cell in zip(columns, row, strict=True):
            if cell:
                console.print(f"{column:{wide}}  {cell}", markup=False, highlight=False, soft_wrap=True)
