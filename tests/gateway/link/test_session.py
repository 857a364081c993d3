"""The gateway's end of the broker, against a real mosquitto."""

import asyncio
import socket
import threading

import pytest

from gateway.link.broker import BrokerOptions
from gateway.link.session import Session
from gateway.link.session_errors import SessionLost
from tests.gateway.link.conftest import PATIENCE_S, WILL
from tests.peers.mosquitto import Broker

TOPIC = "heal7/v1/a/b/receipt"
pytestmark = pytest.mark.usefixtures("quiet")


async def first(session: Session) -> tuple[str, bytes]:
    async with asyncio.timeout(PATIENCE_S):
        return await anext(session.messages())


async def test_what_is_published_arrives(options: BrokerOptions, version5: bool) -> None:
    async with Session(options, "a", WILL, version5) as session:
        await session.subscribe(TOPIC)
        await session.publish(TOPIC, b"x" * 100_000)
        assert await first(session) == (TOPIC, b"x" * 100_000)


async def test_many_may_be_under_way_at_once(options: BrokerOptions, version5: bool) -> None:
    async with Session(options, "a", WILL, version5) as session:
        await session.subscribe(TOPIC)
        async with asyncio.TaskGroup() as tasks:
            for n in range(300):
                tasks.create_task(session.publish(TOPIC, str(n).encode()))
        seen = set()
        async with asyncio.timeout(PATIENCE_S):
            async for _, payload in session.messages():
                seen.add(int(payload))
                if len(seen) == 300:
                    break
        assert seen == set(range(300))


async def test_a_retained_message_waits_for_the_next_session(options: BrokerOptions, version5: bool) -> None:
    async with Session(options, "a", WILL, version5) as session:
        await session.publish(TOPIC, b"kept", retain=True)
    async with Session(options, "a", WILL, version5) as session:
        await session.subscribe(TOPIC)
        assert await first(session) == (TOPIC, b"kept")


async def test_a_killed_broker_is_noticed_by_every_method(
    mosquitto: Broker, options: BrokerOptions, version5: bool
) -> None:
    async with Session(options, "a", WILL, version5) as session:
        await session.subscribe(TOPIC)
        mosquitto.kill()
        with pytest.raises(SessionLost):
            await first(session)
        with pytest.raises(SessionLost):
            await session.publish(TOPIC, b"x")
        with pytest.raises(SessionLost):
            await session.subscribe(TOPIC)


async def test_no_broker_is_a_lost_session(mosquitto: Broker, options: BrokerOptions, version5: bool) -> None:
    mosquitto.kill()
    for _ in range(3):
        with pytest.raises(SessionLost, match="no connection to the broker"):
            async with Session(options, "a", WILL, version5):
                pass


async def test_the_brokers_limits_are_known(mosquitto: Broker, options: BrokerOptions) -> None:
    mosquitto.restart(["max_packet_size 150000", "max_inflight_messages 7"])
    async with Session(options, "a", WILL, True) as session:
        assert session.maximum_packet_size == 150_000
        assert session.receive_maximum >= 1


async def test_a_broker_that_dies_while_something_is_published_leaves_no_descriptor_watched(
    options: BrokerOptions,
) -> None:
    """The loop was handed the number of a descriptor that is closed by then, or somebody else's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        reach = options.model_copy(update={"port": server.getsockname()[1], "protocol": "3.1.1"})
        dying = threading.Event()

        def broker() -> None:
            line, _ = server.accept()
            with line:
                line.recv(1024)
                line.sendall(b"\x20\x02\x00\x00")  # CONNACK: accepted
                dying.wait(PATIENCE_S)

        thread = threading.Thread(target=broker)
        thread.start()
        async with Session(reach, "a", WILL, False) as session:
            publishing = asyncio.create_task(session.publish(TOPIC, b"x"))
            # Before the loop turns again the connection has ended: it then publishes first and hears of it second.
            dying.set()
            thread.join()
            with pytest.raises(SessionLost):
                await publishing
            with pytest.raises(SessionLost):
                await first(session)
