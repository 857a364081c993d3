"""A server in little: it keeps ranges instead of rows, and answers as WIRE.md says, or as a test makes it answer."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import aiomqtt

from gateway.link import wire
from gateway.link.ranges import RangeSet
from gateway.link.status import Status, parse
from gateway.link.topics import Topics

LEDGER = "0f8fad5b-d9cb-469f-a165-70867728950e"
OTHER_LEDGER = "11111111-2222-3333-4444-555555555555"
PATIENCE_S = 30.0


class Database:
    """What outlives a server, and may be restored from a backup."""

    def __init__(self, ledger: str = LEDGER) -> None:
        self.ledger = ledger
        self.settled: dict[int, RangeSet] = defaultdict(RangeSet)


class LedgerServer:
    """committing: settle what comes, and say so. answering: answer statuses. Both may be changed at any time."""

    def __init__(self, client: aiomqtt.Client, database: Database, *, committing: bool, answering: bool) -> None:
        self._client = client
        self._topics = Topics()
        self.database = database
        self.committing = committing
        self.answering = answering
        self.batches: list[wire.Batch] = []
        self.statuses: list[Status] = []
        self._changed = asyncio.Condition()

    def seqs(self) -> list[int]:
        """The seqs of all batches that came, in order, repetitions included."""
        return [batch.envelope.seq for batch in self.batches]

    def readings(self) -> int:
        """Readings in batches of data, each identity once."""
        return sum({(b.envelope.epoch, b.envelope.seq): b.envelope.readings for b in self.batches}.values())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for what comes to make it true."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(condition)

    async def beats(self, count: int = 1) -> None:
        """Waits for so many more statuses of a gateway that is online."""
        seen = len(self.online())
        await self.until(lambda: len(self.online()) >= seen + count)

    def online(self) -> list[Status]:
        """The statuses that were no farewell."""
        return [status for status in self.statuses if status.state == "online"]

    async def say(self, state: str, versions: Sequence[int] = (1,)) -> None:
        """Publishes the server's status."""
        content = {"v": 1, "state": state, "wire": list(versions), "ledger": self.database.ledger, "worker": "w"}
        await self._client.publish(self._topics.server_status, json.dumps(content), qos=1, retain=True)

    async def receipt(
        self, gateway: str, settled: dict[int, RangeSet], ledger: str | None = None, nonce: int | None = None
    ) -> None:
        """Publishes a receipt."""
        content: dict[str, object] = {
            "v": 1,
            "ledger": ledger or self.database.ledger,
            "epochs": [{"epoch": f"{e:016x}", "settled": [list(r) for r in ranges]} for e, ranges in settled.items()],
        }
        if nonce is not None:
            content["nonce"] = f"{nonce:016x}"
        await self._client.publish(self._topics.receipt(gateway), json.dumps(content), qos=1)

    async def answer(self, gateway: str, status: Status) -> None:
        """The whole book of the epochs that the status lists."""
        books = {book.epoch: self.database.settled[book.epoch] for book in status.epochs}
        await self.receipt(gateway, books, nonce=status.nonce)

    async def listen(self) -> None:
        async for message in self._client.messages:
            topic, payload = str(message.topic), bytes(message.payload)
            gateway = self._topics.gateway_of(topic)
            assert gateway is not None
            if topic.endswith("/status"):
                status = parse(Status, payload)
                self.statuses.append(status)
                if self.answering and status.state == "online":
                    await self.answer(gateway, status)
            else:
                batch = wire.decode(payload, gateway)
                self.batches.append(batch)
                if self.committing:
                    await self._commit(gateway, batch)
            async with self._changed:
                self._changed.notify_all()

    async def _commit(self, gateway: str, batch: wire.Batch) -> None:
        epoch, seq = batch.envelope.epoch, batch.envelope.seq
        new = {epoch: RangeSet.of([seq])}
        content = wire.unpack(batch)
        if batch.envelope.kind == wire.Kind.GAP:
            for gap in wire.decode_gaps(content):
                if gap.counts:
                    dropped = RangeSet([(gap.first, gap.first + len(gap.counts))])
                    new[gap.epoch] = new.get(gap.epoch, RangeSet()) | dropped
        for name, ranges in new.items():
            self.database.settled[name] |= ranges
        await self.receipt(gateway, {name: self.database.settled[name] for name in new})


@asynccontextmanager
async def ledger_server(
    port: int,
    database: Database | None = None,
    *,
    committing: bool = True,
    answering: bool = True,
    state: str | None = "online",
) -> AsyncIterator[LedgerServer]:
    """A server at the broker; `state` None: it says nothing of itself yet."""
    async with aiomqtt.Client("127.0.0.1", port, max_inflight_messages=1000) as client:
        server = LedgerServer(client, database or Database(), committing=committing, answering=answering)
        await client.subscribe(Topics().all_batches, qos=1)
        await client.subscribe(Topics().all_statuses, qos=1)
        listening = asyncio.create_task(server.listen(), name="test server")
        try:
            if state is not None:
                await server.say(state)
            yield server
        finally:
            while not listening.done():
                # More than once: `asyncio.wait_for` of Python 3.11, in aiomqtt, may swallow a cancellation.
                listening.cancel()
                await asyncio.wait([listening], timeout=0.2)
            # The broker may have been killed by the test; what else went wrong here is the test's failure.
            error = None if listening.cancelled() else listening.exception()
            if error is not None and not isinstance(error, aiomqtt.MqttError):
                raise error
