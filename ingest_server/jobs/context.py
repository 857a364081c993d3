"""What jobs are given: the database, which flavour it is, and what the configuration wants kept."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from ingest_server.config import IngestConfig
from ingest_server.storage.flavour import Flavour
from ingest_server.storage.pools import Pools


@dataclass(frozen=True, slots=True)
class Context:
    """wall_us: the clock, Unix µs."""

    pools: Pools
    flavour: Flavour
    config: IngestConfig
    wall_us: Callable[[], int]

    @classmethod
    def of(cls, config: IngestConfig, pools: Pools, flavour: Flavour) -> "Context":
        """By this machine's clock."""
        return cls(pools, flavour, config, lambda: time.time_ns() // 1000)
