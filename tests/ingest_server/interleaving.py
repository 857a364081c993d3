"""Workers whose round trips to PostgreSQL happen in an order that a test chooses, with faults between any two.

Every statement, COPY, BEGIN and COMMIT of psycopg goes through `AsyncConnection.wait`: there each task that takes part
stops until it is its turn. One goes at a time, and the next is chosen once all the others stand still: at their next
round trip, at the end of their work, or waiting for a lock that another of them holds. So the same order of turns does
the same again, and two that wait for each other in a circle are seen.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import psycopg
from psycopg import AsyncConnection, OperationalError
from psycopg.abc import PQGen
from psycopg.errors import DeadlockDetected
from psycopg.rows import TupleRow

from tests.ingest_server.line import PATIENCE_S

_MOST_TURNS = 2_000
"""More than any plan needs: a worker that repeats itself for ever is an error, not a long test."""


class Fault(Enum):
    """What happens to the task whose turn it is, or at its next COMMIT."""

    CUT = auto()
    """Its connection is gone before the round trip."""
    CUT_AT_COMMIT = auto()
    """After COPY and the ledger, before COMMIT."""
    LOSE_ANSWER = auto()
    """COMMIT is done, and nobody hears of it."""
    DIE_AT_COMMIT = auto()
    """The process is gone before COMMIT."""
    DIE_AFTER_COMMIT = auto()
    """The process is gone between COMMIT and receipt."""


class State(Enum):
    RUNNING = auto()
    AT_TURN = auto()
    BLOCKED = auto()
    RESTING = auto()


class Died(BaseException):
    """Ends a task where it stands, as kill -9 would: nothing of ours may handle it."""


@dataclass
class Actor:
    """A task that takes part."""

    name: str
    busy: Callable[[], bool]
    lost: Callable[[int], None]
    """Told of a backend whose client is gone; returns when it has ended, and let go of its locks."""
    deadlocks: list[str]
    task: asyncio.Task[Any] | None = None
    state: State = State.RUNNING
    armed: Fault | None = None
    dead: bool = False
    backend: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ended(self) -> bool:
        return self.task is not None and self.task.done()


_current: ContextVar[Actor | None] = ContextVar("actor", default=None)


class Stepped(AsyncConnection[TupleRow]):
    """Takes the place of psycopg's connection in the code under test."""

    async def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        actor = _current.get()
        if actor is None or self.pgconn.status != psycopg.pq.ConnStatus.OK:
            return await super().wait(gen, interval, timeout)
        actor.backend = self.pgconn.backend_pid
        actor.go.clear()
        actor.state = State.AT_TURN
        await actor.go.wait()
        commits = _commits(gen)
        if actor.armed is Fault.CUT or (commits and actor.armed in (Fault.CUT_AT_COMMIT, Fault.DIE_AT_COMMIT)):
            self._fail(actor)
        try:
            result = await super().wait(gen, interval, timeout)
        except DeadlockDetected:
            actor.deadlocks.append(actor.name)
            raise
        if commits and actor.armed in (Fault.LOSE_ANSWER, Fault.DIE_AFTER_COMMIT):
            self._fail(actor)
        return result

    def _fail(self, actor: Actor) -> None:
        fault, actor.armed = actor.armed, None
        self.pgconn.finish()
        actor.lost(actor.backend)
        if fault in (Fault.DIE_AT_COMMIT, Fault.DIE_AFTER_COMMIT):
            actor.dead = True
            raise Died
        raise OperationalError("the connection is lost")


def _commits(gen: PQGen[Any]) -> bool:
    frame = getattr(gen, "gi_frame", None)
    return frame is not None and frame.f_code.co_name == "_exit_gen" and frame.f_locals.get("exc_type") is None


class Interleaving:
    """Runs tasks turn by turn. `monitor`: a connection of the test's own, with autocommit."""

    def __init__(self, monitor: psycopg.Connection[TupleRow]) -> None:
        self._monitor = monitor
        self._actors: list[Actor] = []
        self.turns: list[str] = []
        """Whose each turn was."""
        self.deadlocks: list[str] = []
        """Who was in a circle of waiting that PostgreSQL ended."""

    def start(self, name: str, work: Coroutine[Any, Any, Any], busy: Callable[[], bool]) -> Actor:
        """A task that takes part from now on. busy: whether it has work; it rests where it has none."""
        actor = Actor(name, busy, self._until_gone, self.deadlocks)

        async def run() -> None:
            _current.set(actor)
            with suppress(Died):
                await work

        actor.task = asyncio.create_task(run(), name=name)
        self._actors.append(actor)
        return actor

    async def run(self, choose: Callable[[int], int], fault: Callable[[int], Fault | None]) -> None:
        """Until none of them has work. choose(n): which of n goes next; fault(turn): what befalls it from then on.

        Raises AssertionError where all wait for one another.
        """
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await self._until_still()
                ready = [a for a in self._actors if a.state is State.AT_TURN]
                if not ready:
                    blocked = [a.name for a in self._actors if a.state is State.BLOCKED]
                    assert not blocked, f"{blocked} wait for locks that nobody will let go; turns: {self.turns}"
                    return
                actor = ready[choose(len(ready))]
                befalls = fault(len(self.turns))
                if befalls is not None:
                    actor.armed = befalls
                self.turns.append(actor.name)
                assert len(self.turns) < _MOST_TURNS, f"without an end: {self.turns[-50:]}"
                actor.state = State.RUNNING
                actor.go.set()

    async def finish(self) -> None:
        """All turns at once, until every task has ended."""
        async with asyncio.timeout(PATIENCE_S):
            while any(not a.ended for a in self._actors):
                for actor in self._actors:
                    actor.go.set()
                await asyncio.sleep(0.001)
        for actor in self._actors:
            assert actor.task is not None
            actor.task.result()

    async def _until_still(self) -> None:
        while moving := [a for a in self._actors if not self._stands_still(a)]:
            await asyncio.sleep(0)
            moving = [a for a in moving if not self._stands_still(a)]
            if not moving:
                continue
            waiting = self._waiting_backends()
            for actor in moving:
                if actor.state is State.RUNNING and actor.backend in waiting:
                    actor.state = State.BLOCKED
                elif actor.state is State.BLOCKED and actor.backend not in waiting:
                    actor.state = State.RUNNING
            if all(a.state is State.BLOCKED for a in moving):
                return
            await asyncio.sleep(0.0005)

    def _stands_still(self, actor: Actor) -> bool:
        if actor.ended or (actor.state is not State.AT_TURN and not actor.busy()):
            actor.state = State.RESTING
        elif actor.state is State.RESTING:
            actor.state = State.RUNNING
        return actor.state in (State.AT_TURN, State.RESTING)

    def _until_gone(self, backend: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self._monitor.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (backend,)).fetchone() is not None:
            assert time.monotonic() < deadline, f"backend {backend} outlives its client"
            time.sleep(0.0005)

    def _waiting_backends(self) -> set[int]:
        rows = self._monitor.execute("SELECT pid FROM pg_locks WHERE NOT granted").fetchall()
        return {row[0] for row in rows}
