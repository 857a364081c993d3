"""What jobs are given: the database, which flavour it is, and what the configuration wants kept."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from ingest_server.config import BooksOptions, IngestConfig, PatternsOptions, QuarantineOptions, StorageOptions
from ingest_server.storage.flavour import Flavour
from ingest_server.storage.pools import Pools


@dataclass(frozen=True, slots=True)
class Context:
    """wall_us: the clock, Unix µs."""

    pools: Pools
    flavour: Flavour
    storage: StorageOptions
    books: BooksOptions
    quarantine: QuarantineOptions
    patterns: PatternsOptions
    wall_us: Callable[[], int]

    @classmethod
    def of(cls, config: IngestConfig, pools: Pools, flavour: Flavour) -> "Context":
        """As the configuration says, by this machine's clock."""
        return cls(
            pools,
            flavour,
            config.storage,
            config.books,
            config.quarantine,
            config.patterns,
            lambda: time.time_ns() // 1000,
        )
