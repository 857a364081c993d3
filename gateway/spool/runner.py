"""What the uplink needs of a spool: somebody who does works on it, one after the other."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from gateway.spool.store import Spool

T = TypeVar("T")


class SpoolRunner(Protocol):
    """`SpoolThread` on a gateway. A fleet that is simulated in one process has a thread for none of its spools."""

    async def run(self, op: Callable[[Spool], T], *, within_s: float = 0.0) -> T:
        """Does `op`, which touches nothing but the spool; when this returns it is committed. Raises what `op` raises,
        and SpoolError. within_s: how long the work may wait for others to share its commit."""
        ...
