"""What a demonstration comes to: the equation from both books, for a person and for a program."""

from dataclasses import dataclass

from heal7_iot.demo.books import DatabaseBook, SpoolBook
from heal7_iot.demo.observation import CommitLatency
from heal7_iot.embedded.broker import BrokerKind


@dataclass(frozen=True, slots=True)
class Result:
    """Both books, once the gateway has ended; seconds that the sensors measured."""

    seconds: float
    broker: BrokerKind
    spool: SpoolBook
    database: DatabaseBook
    latency: CommitLatency


def balanced(spool: SpoolBook, database: DatabaseBook) -> bool:
    """Whether every reading that was sealed is accounted for, and each row is there once."""
    return (
        spool.sealed == database.settled
        and spool.in_flight == 0
        and database.rows == database.committed
        and database.rows_twice == 0
    )


def verdict(result: Result) -> str:
    """The two books side by side, and whether they agree."""
    spool, database = result.spool, result.database
    mark = "✔ 장부 일치  the books balance" if balanced(spool, database) else "✘ 장부 불일치  THE BOOKS DO NOT BALANCE"
    return (
        f"\n스풀의 장부 gateway's spool  sealed {spool.sealed:,} = settled {spool.settled:,}"
        f" + dropped {spool.dropped:,} + in flight {spool.in_flight:,}"
        f"\nDB의 장부 database's ledger  settled {database.settled:,} = committed {database.committed:,}"
        f" + quarantined {database.quarantined:,} + dropped {database.dropped:,} + lost {database.presumed_lost:,}"
        f"\nDB의 행 rows in the database {database.rows:,}, of them written twice: {database.rows_twice:,}"
        f"\n{mark}\n"
    )


def summary(result: Result) -> dict[str, object]:
    """The last line's JSON object; counts are of readings, but for `batches` and `duplicates` (batches that came
    again and were left out) and `gateways`."""
    spool, database = result.spool, result.database
    return {
        "balanced": balanced(spool, database),
        "readings_sealed": spool.sealed,
        "readings_committed": database.committed,
        "readings_quarantined": database.quarantined,
        "readings_dropped": database.dropped,
        "presumed_lost": database.presumed_lost,
        "in_flight": spool.in_flight,
        "never_sealed": spool.never_sealed,
        "duplicates": database.duplicates,
        "rows_in_database": database.rows,
        "rows_twice": database.rows_twice,
        "batches": spool.batches,
        "commit_latency_ms_p50": result.latency.commit_latency_ms_p50,
        "commit_latency_ms_p99": result.latency.commit_latency_ms_p99,
        "gateways": database.gateways,
        "broker": result.broker,
        "seconds": round(result.seconds, 1),
    }
