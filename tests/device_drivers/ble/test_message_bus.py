"""Our own message bus behaves as dbus-daemon does: the same tests on both, and its own manners with strangers."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from dbus_fast import Message, MessageType, RequestNameReply, Variant
from dbus_fast.aio import MessageBus as Client

from device_drivers.simulator.message_bus import MessageBus
from tests.device_drivers.ble.conftest import TIMEOUT_S

BUS = "org.freedesktop.DBus"
NAME = "org.example.Room"


@pytest.fixture
async def clients(bus_address: str) -> AsyncIterator[tuple[Client, Client]]:
    first, second = await Client(bus_address).connect(), await Client(bus_address).connect()
    yield first, second
    for client in (first, second):
        client.disconnect()
        await client.wait_for_disconnect()  # type: ignore[no-untyped-call]


async def ask(client: Client, member: str, *body: str, destination: str = BUS) -> Message:
    async with asyncio.timeout(TIMEOUT_S):
        reply = await client.call(
            Message(
                destination=destination,
                path="/org/freedesktop/DBus",
                interface=BUS,
                member=member,
                signature="s" * len(body),
                body=list(body),
            )
        )
    assert reply is not None
    return reply


async def test_names(clients: tuple[Client, Client]) -> None:
    first, second = clients
    assert first.unique_name != second.unique_name
    assert await first.request_name(NAME) is RequestNameReply.PRIMARY_OWNER
    assert await first.request_name(NAME) is RequestNameReply.ALREADY_OWNER
    assert (await ask(second, "GetNameOwner", NAME)).body == [first.unique_name]
    assert (await ask(second, "NameHasOwner", NAME)).body == [True]
    await first.release_name(NAME)
    assert (await ask(second, "NameHasOwner", NAME)).body == [False]
    reply = await ask(second, "GetNameOwner", NAME)
    assert (reply.message_type, reply.error_name) == (MessageType.ERROR, f"{BUS}.Error.NameHasNoOwner")


async def test_a_call_is_answered_with_its_sender(clients: tuple[Client, Client]) -> None:
    first, second = clients
    body = [{"ServiceData": Variant("a{sv}", {"fcd2": Variant("ay", b"\x40\x02")}), "RSSI": Variant("n", -60)}]

    def answer(message: Message) -> Message | None:
        if message.member != "Echo":
            return None
        assert message.sender == second.unique_name
        if message.body:
            return Message.new_method_return(message, message.signature, message.body)
        return Message.new_error(message, "org.example.Error", "say something")

    first.add_message_handler(answer)
    await first.request_name(NAME)
    call = Message(destination=NAME, path="/room", interface=NAME, member="Echo", signature="a{sv}", body=body)
    async with asyncio.timeout(TIMEOUT_S):
        reply = await second.call(call)
        refused = await second.call(Message(destination=NAME, path="/room", interface=NAME, member="Echo"))
    assert reply is not None
    assert (reply.body, reply.sender) == (body, first.unique_name)
    assert refused is not None
    assert (refused.error_name, refused.body) == ("org.example.Error", ["say something"])


async def test_nobody_is_there(clients: tuple[Client, Client]) -> None:
    reply = await ask(clients[0], "Ping", destination="org.example.Nobody")
    assert (reply.message_type, reply.error_name) == (MessageType.ERROR, f"{BUS}.Error.ServiceUnknown")


async def test_signals_reach_those_who_listen(clients: tuple[Client, Client]) -> None:
    first, second = clients
    heard: asyncio.Queue[Message] = asyncio.Queue()

    def listen(message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.member in ("Said", "NameOwnerChanged"):
            heard.put_nowait(message)

    second.add_message_handler(listen)
    await ask(second, "AddMatch", "type='signal',interface='org.example.Room'")
    await ask(second, "AddMatch", f"type='signal',member='NameOwnerChanged',arg0='{first.unique_name}'")
    await first.send(Message.new_signal("/room", NAME, "Said", "s", ["hello"]))
    async with asyncio.timeout(TIMEOUT_S):
        said = await heard.get()
        assert (said.body, said.sender, said.path) == (["hello"], first.unique_name, "/room")
        gone = first.unique_name
        first.disconnect()
        assert (await heard.get()).body == [gone, gone, ""]


async def test_another_user_is_turned_away(bus_directory: Path) -> None:
    async with MessageBus(bus_directory / "bus.sock"), asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_unix_connection(bus_directory / "bus.sock")
        writer.write(b"\0AUTH EXTERNAL " + str(os.getuid() + 1).encode().hex().encode() + b"\r\n")
        assert await reader.readline() == b"REJECTED EXTERNAL\r\n"
        writer.write(b"BEGIN\r\n")
        assert await reader.readline() == b"ERROR\r\n"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("bytes_", [b"GET / HTTP/1.1\r\n\r\n", b"\0" + b"A" * 100_000], ids=["http", "no end"])
async def test_strangers_are_cut_off(bus_directory: Path, bytes_: bytes) -> None:
    async with MessageBus(bus_directory / "bus.sock"), asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_unix_connection(bus_directory / "bus.sock")
        writer.write(bytes_)
        assert await reader.read() == b""
        writer.close()
