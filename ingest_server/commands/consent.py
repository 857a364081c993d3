"""Who changes what is stored, and that they mean it."""

import getpass
import os
import socket
import sys

import typer

from ingest_server.commands.database_option import EXIT_FAILED, refuse


def who() -> str:
    """Whoever runs this command, for an audit trail."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # an account that the system has no name for
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"


def confirm(question: str, unchanged: str) -> None:
    """Asks on a terminal; ends the command, which says `unchanged`, at a no and where nobody can be asked."""
    if not sys.stdin.isatty():
        refuse(f"{unchanged}: nobody can be asked without a terminal; look at it, then say --yes")
    if not typer.confirm(question, err=True):
        typer.echo(unchanged, err=True)
        raise typer.Exit(EXIT_FAILED)
