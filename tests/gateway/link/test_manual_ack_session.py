"""The server's end of the broker, against a real mosquitto."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from gateway.link.broker import BrokerOptions
from gateway.link.manual_ack_session import Incoming, ManualAckSession
from gateway.link.session_errors import SessionLost
from tests.gateway.link.conftest import PATIENCE_S, WILL
from tests.peers.mosquitto import Broker

TOPIC = "heal7/v1/a/b/batch"
pytestmark = pytest.mark.usefixtures("quiet")


class Inbox:
    """What a session has delivered."""

    def __init__(self) -> None:
        self.messages: list[Incoming] = []
        self._arrived = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, message: Incoming) -> None:
        self.messages.append(message)
        task = asyncio.create_task(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()

    async def until(self, count: int) -> list[bytes]:
        async with asyncio.timeout(PATIENCE_S), self._arrived:
            await self._arrived.wait_for(lambda: len(self.messages) >= count)
        return [m.payload for m in self.messages]


@contextlib.asynccontextmanager
async def session(
    options: BrokerOptions, name: str, inbox: Inbox, *, version5: bool = True, receive_maximum: int = 100
) -> AsyncIterator[ManualAckSession]:
    async with ManualAckSession(options, name, WILL, version5, receive_maximum, inbox.put) as opened:
        yield opened


async def echo(opened: ManualAckSession, inbox: Inbox) -> None:
    """Returns once the broker has sent everything that it had for this session, unless it waits for acks."""
    opened.publish("echo", b"echo")
    async with asyncio.timeout(PATIENCE_S):
        while not any(m.topic == "echo" for m in inbox.messages):
            await inbox.until(len(inbox.messages) + 1)
    for message in [m for m in inbox.messages if m.topic == "echo"]:
        message.ack()
        inbox.messages.remove(message)


async def test_what_is_published_arrives(options: BrokerOptions, version5: bool) -> None:
    inbox = Inbox()
    async with session(options, "a", inbox, version5=version5) as opened:
        await opened.subscribe([TOPIC, "echo"])
        for n in range(50):
            opened.publish(TOPIC, bytes([n]) * 2_000)
        # 3.1.1: mosquitto stops at 20 that nobody acknowledged.
        for n in range(50):
            await inbox.until(n + 1)
            inbox.messages[n].ack()
        assert [m.payload[0] for m in inbox.messages] == list(range(50))


async def test_the_broker_sends_no_more_than_receive_maximum(options: BrokerOptions) -> None:
    inbox, other = Inbox(), Inbox()
    async with session(options, "a", inbox, receive_maximum=3) as slow, session(options, "b", other) as fast:
        await slow.subscribe([TOPIC])
        await fast.subscribe([TOPIC])
        for n in range(8):
            fast.publish(TOPIC, bytes([n]))
        # The other has all of them: so the broker has gone through what it may send to the slow one.
        await other.until(8)
        assert await inbox.until(3) == [b"\0", b"\1", b"\2"]
        await slow.subscribe(["heal7/v1/x/y/batch"])
        assert len(inbox.messages) == 3, "a round trip later there is no fourth"
        inbox.messages[1].ack()
        assert len(await inbox.until(4)) == 4
        for message in list(inbox.messages):
            message.ack()
        assert [p[0] for p in await inbox.until(8)] == list(range(8))


async def test_a_clean_session_brings_nothing_again(options: BrokerOptions, version5: bool) -> None:
    """What was not acknowledged is gone with its connection: the gateways send it again, not the broker."""
    first, second = Inbox(), Inbox()
    async with session(options, "a", first, version5=version5) as opened:
        await opened.subscribe([TOPIC])
        opened.publish(TOPIC, b"lost")
        await first.until(1)
    async with session(options, "a", second, version5=version5) as opened:
        await opened.subscribe([TOPIC, "echo"])
        await echo(opened, second)
        assert second.messages == []
        # An ack belongs to its connection: this one must not reach the new.
        first.messages[0].ack()
        opened.publish(TOPIC, b"new")
        assert await second.until(1) == [b"new"]


async def test_a_shared_subscription_goes_on_with_the_worker_that_is_left(options: BrokerOptions) -> None:
    first, second, watcher = Inbox(), Inbox(), Inbox()
    shared = f"$share/workers/{TOPIC}"
    async with session(options, "w", watcher) as publisher:
        async with session(options, "a", first) as opened:
            await opened.subscribe([shared])
            publisher.publish(TOPIC, b"1")
            await first.until(1)
        async with session(options, "b", second) as opened:
            await opened.subscribe([shared, "echo"])
            publisher.publish(TOPIC, b"2")
            assert b"2" in await second.until(1)


async def test_a_killed_broker_is_noticed_and_acks_after_it_do_nothing(
    mosquitto: Broker, options: BrokerOptions, version5: bool
) -> None:
    inbox = Inbox()
    async with session(options, "a", inbox, version5=version5) as opened:
        await opened.subscribe([TOPIC])
        opened.publish(TOPIC, b"x")
        await inbox.until(1)
        mosquitto.kill()
        async with asyncio.timeout(PATIENCE_S):
            assert await opened.lost()
        inbox.messages[0].ack()
        opened.publish(TOPIC, b"into the void")
        with pytest.raises(SessionLost):
            await opened.subscribe([TOPIC])


async def test_a_broker_that_is_silent_is_noticed(mosquitto: Broker, options: BrokerOptions) -> None:
    """A line that is cut without a word: only the keepalive tells."""
    async with silent_proxy(mosquitto.port) as (port, cut):
        inbox = Inbox()
        through = options.model_copy(update={"port": port})
        async with session(through, "a", inbox) as opened:
            await opened.subscribe([TOPIC])
            cut.set()
            async with asyncio.timeout(PATIENCE_S):
                assert await opened.lost()


@contextlib.asynccontextmanager
async def silent_proxy(port: int) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """Passes bytes both ways until `cut`; from then on it swallows them and closes nothing."""
    cut = asyncio.Event()
    pipes: set[asyncio.Task[None]] = set()
    lines: list[asyncio.Task[None]] = []

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if not cut.is_set():
                    writer.write(data)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (line := asyncio.current_task()) is not None:
            lines.append(line)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        tasks = [asyncio.create_task(pipe(reader, up_writer)), asyncio.create_task(pipe(up_reader, writer))]
        pipes.update(tasks)
        await asyncio.wait(tasks)
        for w in (up_writer, writer):
            w.close()
            with contextlib.suppress(OSError):
                await w.wait_closed()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], cut
        for task in pipes:
            task.cancel()
        await asyncio.gather(*pipes, *lines, return_exceptions=True)


async def test_the_last_will_is_published_when_the_line_is_cut(options: BrokerOptions, mosquitto: Broker) -> None:
    watcher = Inbox()
    async with session(options, "w", watcher) as opened:
        await opened.subscribe([WILL[0]])
        async with silent_proxy(mosquitto.port) as (port, _):
            lost = ManualAckSession(options.model_copy(update={"port": port}), "a", WILL, True, 10, Inbox().put)
            await lost.__aenter__()
        assert await watcher.until(1) == [WILL[1]]
        await lost.__aexit__()


async def test_no_broker_is_a_lost_session(mosquitto: Broker, options: BrokerOptions, version5: bool) -> None:
    mosquitto.kill()
    for _ in range(3):
        with pytest.raises(SessionLost, match="no connection to the broker"):
            async with session(options, "a", Inbox(), version5=version5):
                pass


async def test_a_peer_that_says_nothing_is_a_lost_session() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        options = BrokerOptions(port=listener.getsockname()[1], connect_timeout_s=0.3)
        with pytest.raises(SessionLost, match="no answer"):
            async with session(options, "a", Inbox()):
                pass


async def test_a_peer_that_hangs_up_is_a_lost_session() -> None:
    lines: list[asyncio.Task[None]] = []

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (line := asyncio.current_task()) is not None:
            lines.append(line)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        options = BrokerOptions(port=server.sockets[0].getsockname()[1], connect_timeout_s=5)
        with pytest.raises(SessionLost):
            async with session(options, "a", Inbox()):
                pass
        await asyncio.gather(*lines)


async def test_connecting_can_be_cancelled_before_the_connection_stands() -> None:
    """The thread that looks up and connects goes on; its socket is closed when it has come that far."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        options = BrokerOptions(port=listener.getsockname()[1], connect_timeout_s=60)
        opened = ManualAckSession(options, "a", WILL, True, 10, Inbox().put)
        connecting = asyncio.create_task(opened.__aenter__())
        await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.wait([connecting])
        assert connecting.cancelled()
        accepted, _ = await asyncio.get_running_loop().run_in_executor(None, listener.accept)
        accepted.close()


async def test_connecting_can_be_cancelled() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        options = BrokerOptions(port=listener.getsockname()[1], connect_timeout_s=60)
        opened = ManualAckSession(options, "a", WILL, True, 10, Inbox().put)
        connecting = asyncio.create_task(opened.__aenter__())
        # Its CONNECT is here: so it waits for the answer that never comes.
        accepted, _ = await asyncio.get_running_loop().run_in_executor(None, listener.accept)
        with accepted:
            await asyncio.get_running_loop().run_in_executor(None, accepted.recv, 1000)
            connecting.cancel()
            await asyncio.wait([connecting])
            assert connecting.cancelled()
        del opened, connecting
