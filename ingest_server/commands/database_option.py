"""What commands on a database share: how it is named, how its errors are told, how tables are shown."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, is_dataclass
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from ingest_server.errors import StorageError
from ingest_server.storage.connection import Connection, connect
from ingest_server.storage.migrations import require_current

EXIT_FAILED = 1
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


def on_database(dsn: str, work: Callable[[Connection], Awaitable[_T]], *, current: bool = True) -> _T:
    """Runs `work` on a connection; a database that is away or outdated is one line on standard error, and exit 1."""

    async def run() -> _T:
        connection = await connect(dsn, "command", _STATEMENT_TIMEOUT_S)
        try:
            if current:
                await require_current(connection)
            return await work(connection)
        finally:
            await connection.close()

    try:
        return asyncio.run(run())
    except StorageError as error:
        typer.echo(f"database: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from error


def show_json(value: Any) -> None:
    """Dataclasses, or lists of them, as JSON."""
    typer.echo(json.dumps(value, default=_plain, ensure_ascii=False))


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table for a person; long lines wrap, nothing is cut off."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        numeric = all(isinstance(row[columns.index(column)], int | float) for row in rows) and bool(rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else f"{cell:,}" if type(cell) is int else str(cell) for cell in row))
    console = Console()
    if not console.is_terminal:
        # Into a pipe or a file: folded to 80 columns, no word that `grep` looks for would be whole.
        console.width = _PIPE_COLUMNS
    console.print(table)
