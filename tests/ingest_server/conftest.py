"""A whole ingest server on a real broker and a real database, and a gateway's end to speak to it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.link.receipts import Receipt
from gateway.link.session import Session
from gateway.link.session_errors import SessionLost
from gateway.link.status import Message, ServerStatus, parse
from ingest_server.app import serve
from ingest_server.config import IngestConfig
from tests.ingest_server.line import GATEWAY, PATIENCE_S, TOPICS
from tests.peers.mosquitto import Broker
from tests.peers.postgres import Database


def configuration(dsn: str, broker: Broker, **tables: dict[str, Any]) -> IngestConfig:
    content: dict[str, Any] = {
        "mqtt": {"port": broker.port, "keepalive_s": 2, "connect_timeout_s": 5.0},
        "database": {"dsn": dsn},
    }
    for table, values in tables.items():
        content[table] = content.get(table, {}) | values
    return IngestConfig.model_validate(content)


@asynccontextmanager
async def serving(config: IngestConfig) -> AsyncIterator[None]:
    """The server as its command runs it; stopped as SIGTERM stops it."""
    stop = asyncio.Event()
    running = asyncio.create_task(serve(config, stop))
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(PATIENCE_S):
            await running


@dataclass
class Peer:
    """A gateway's session, and all that came to it."""

    session: Session
    receipts: list[tuple[str, Receipt]] = field(default_factory=list)
    servers: list[ServerStatus] = field(default_factory=list)
    on_receipt: Callable[[Receipt], None] = lambda _receipt: None
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def send(self, *payloads: bytes, gateway: str = GATEWAY) -> None:
        for payload in payloads:
            await self.session.publish(TOPICS.batch(gateway), payload)

    async def say(self, said: Message, gateway: str = GATEWAY) -> None:
        await self.session.publish(TOPICS.status(gateway), said.payload(), retain=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for what comes to make it true."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(condition)

    async def receipted(self, epoch: int, *seqs: int) -> None:
        """Waits until receipts have named all of these."""
        await self.until(lambda: all(any(self._names(r, epoch, seq) for _, r in self.receipts) for seq in seqs))

    @staticmethod
    def _names(receipt: Receipt, epoch: int, seq: int) -> bool:
        return any(e.epoch == epoch and seq in e.settled for e in receipt.epochs)

    async def online(self) -> None:
        """Waits for a server that takes batches."""
        await self.until(lambda: bool(self.servers) and self.servers[-1].state == "online")

    async def hear(self) -> None:
        async for topic, payload in self.session.messages():
            async with self._changed:
                if topic == TOPICS.server_status:
                    self.servers.append(parse(ServerStatus, payload))
                else:
                    receipt = parse(Receipt, payload)
                    self.on_receipt(receipt)
                    self.receipts.append((topic, receipt))
                self._changed.notify_all()


@asynccontextmanager
async def peer_of(config: IngestConfig, name: str = "peer") -> AsyncIterator[Peer]:
    """A gateway's end that hears every receipt and every server."""
    async with Session(config.mqtt, name, (TOPICS.status("x/x"), b"{}"), True) as session:
        await session.subscribe(f"{TOPICS.root}/+/+/receipt")
        await session.subscribe(TOPICS.server_status)
        peer = Peer(session)
        hearing = asyncio.create_task(peer.hear())
        try:
            yield peer
        finally:
            hearing.cancel()
            with contextlib.suppress(asyncio.CancelledError, SessionLost):
                await hearing


@pytest.fixture
def config(database: Database, mosquitto: Broker) -> IngestConfig:
    return configuration(database.dsn, mosquitto)
