"""`heal7-iot audit`: the equation."""

import typer

from ingest_server.commands.database_option import EXIT_FAILED, AsJson, Dsn, on_database, show_json, show_table
from ingest_server.storage.line.ledger import read_books


def audit(dsn: Dsn, as_json: AsJson = False) -> None:
    """Account for every reading, per gateway; exit 1 where the books do not balance.

    sealed = committed + quarantined + dropped + presumed lost + in flight, in readings, from the gateways' books and
    from the ledger. Balanced means that no batch is missing from both.

    Example: heal7-iot audit --dsn 'dbname=heal7' || page-the-operator
    """
    books = on_database(dsn, read_books)
    balanced = all(b.balanced for b in books)
    if as_json:
        show_json({"balanced": balanced, "gateways": books})
    elif books:
        columns = ["gateway", "sealed", "committed", "quarantined", "dropped", "presumed lost", "in flight", "balanced"]
        rows = [
            (
                b.gateway,
                b.sealed,
                b.committed,
                b.quarantined,
                b.dropped,
                b.presumed_lost,
                b.in_flight,
                "yes" if b.balanced else f"NO: {b.epochs_with_missing} epochs with missing batches",
            )
            for b in books
        ]
        show_table("books, in readings", columns, rows)
    else:
        typer.echo("no gateway has been heard of yet: nothing to balance")
    if not balanced:
        raise typer.Exit(EXIT_FAILED)
