"""A small D-Bus message bus on a Unix socket, for machines that have no dbus-daemon.

It knows names, calls, replies, errors and signals. It does not evaluate match rules (whoever has one hears every
signal), hold policies, start services or pass file descriptors.
Protocol: https://dbus.freedesktop.org/doc/dbus-specification.html#message-bus.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Self

from device_drivers.errors import ProtocolError
from device_drivers.simulator import dbus_wire
from device_drivers.simulator.dbus_wire import Field, Frame, Kind

BUS = "org.freedesktop.DBus"
_BUS_PATH = "/org/freedesktop/DBus"

# A client that does not read would otherwise hold every signal of the radio in our memory.
MAX_UNREAD_BYTES = 8 << 20

# A login is three short lines; whoever needs longer is no D-Bus client.
_LOGIN_TIMEOUT_S = 10.0

_PEER_CREDENTIALS = struct.Struct("3i")  # process, user, group
_REQUEST_NAME_OWNER, _REQUEST_NAME_EXISTS, _REQUEST_NAME_ALREADY = 1, 3, 4
_RELEASED, _NO_SUCH_NAME = 1, 2


@dataclass(eq=False, slots=True)
class _Peer:
    """One connection. rules: how many match rules it has."""

    name: str
    writer: asyncio.StreamWriter
    rules: int = 0
    owned: set[str] = field(default_factory=set)

    def send(self, frame: Frame) -> None:
        transport = self.writer.transport
        if transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            transport.abort()
            return
        self.writer.write(dbus_wire.encode(frame))


class MessageBus:
    """A bus at `path`, from entering to leaving; leaving cuts all connections, as a restarted dbus-daemon does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: asyncio.Server | None = None
        self._peers: dict[str, _Peer] = {}
        self._owners: dict[str, _Peer] = {}
        self._sessions: set[asyncio.Task[None]] = set()
        self._names = count(1)
        self._serials = count(1)
        self._methods: dict[str, Callable[[_Peer, Frame], tuple[str, bytes]]] = {
            "Hello": self._hello,
            "RequestName": self._request_name,
            "ReleaseName": self._release_name,
            "GetNameOwner": self._get_name_owner,
            "NameHasOwner": self._name_has_owner,
            "AddMatch": self._add_match,
            "RemoveMatch": self._remove_match,
        }

    @property
    def address(self) -> str:
        """What a client connects to, for DBUS_SYSTEM_BUS_ADDRESS."""
        return f"unix:path={self._path}"

    async def __aenter__(self) -> Self:
        """Raises OSError where the socket cannot be made (a path of more than about 100 bytes, for one)."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, self._path)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for session in self._sessions:
            session.cancel()
        if self._sessions:
            await asyncio.wait(self._sessions)
        await self._server.wait_closed()
        self._path.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="d-bus session")
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = _Peer(f":1.{next(self._names)}", writer)
        try:
            async with asyncio.timeout(_LOGIN_TIMEOUT_S):
                await _login(reader, writer)
            self._peers[peer.name] = peer
            while True:
                head = await reader.readexactly(dbus_wire.HEAD_SIZE)
                rest = await reader.readexactly(dbus_wire.message_size(head) - len(head))
                self._route(peer, dbus_wire.decode(head + rest))
        except (ProtocolError, EOFError, OSError):
            pass  # the client has left, or is none: its connection ends, and the names that it owned with it
        finally:
            self._forget(peer)
            writer.close()

    def _forget(self, peer: _Peer) -> None:
        self._peers.pop(peer.name, None)
        for name in sorted(peer.owned):
            del self._owners[name]
            self._owner_changed(name, peer.name, "")
        self._owner_changed(peer.name, peer.name, "")

    def _route(self, sender: _Peer, frame: Frame) -> None:
        frame.fields[Field.SENDER] = sender.name
        destination = frame.text(Field.DESTINATION)
        if destination == BUS:
            self._answer(sender, frame)
        elif destination:
            self._forward(sender, frame, destination)
        elif frame.kind is Kind.SIGNAL:
            self._broadcast(frame)

    def _forward(self, sender: _Peer, frame: Frame, destination: str) -> None:
        receiver = self._peers.get(destination) or self._owners.get(destination)
        if receiver is not None:
            receiver.send(frame)
        elif frame.kind is Kind.METHOD_CALL:
            text = f"The name {destination} was not provided by any .service files"
            self._reply_error(sender, frame, f"{BUS}.Error.ServiceUnknown", text)

    def _broadcast(self, frame: Frame) -> None:
        sender = frame.text(Field.SENDER)
        for peer in self._peers.values():
            if peer.rules and peer.name != sender:
                peer.send(frame)

    def _answer(self, sender: _Peer, frame: Frame) -> None:
        method = self._methods.get(frame.text(Field.MEMBER))
        if method is None:
            self._reply_error(sender, frame, f"{BUS}.Error.UnknownMethod", frame.text(Field.MEMBER))
            return
        try:
            signature, body = method(sender, frame)
        except LookupError as error:
            self._reply_error(sender, frame, f"{BUS}.Error.NameHasNoOwner", str(error.args[0]))
            return
        self._reply(sender, frame, Kind.METHOD_RETURN, {}, signature, body)

    def _reply_error(self, sender: _Peer, frame: Frame, name: str, text: str) -> None:
        body = dbus_wire.encode_strings(text)
        self._reply(sender, frame, Kind.ERROR, {Field.ERROR_NAME: name}, "s", body)

    def _reply(
        self, to: _Peer, call: Frame, kind: Kind, fields: dict[Field, str | int], signature: str, body: bytes
    ) -> None:
        if call.flags & dbus_wire.NO_REPLY_EXPECTED:
            return
        fields = fields | {
            Field.REPLY_SERIAL: call.serial,
            Field.DESTINATION: to.name,
            Field.SENDER: BUS,
        }
        if signature:
            fields[Field.SIGNATURE] = signature
        to.send(Frame(kind, next(self._serials), dbus_wire.NO_REPLY_EXPECTED, fields, body))

    def _owner_changed(self, name: str, old: str, new: str) -> None:
        fields: dict[Field, str | int] = {
            Field.PATH: _BUS_PATH,
            Field.INTERFACE: BUS,
            Field.MEMBER: "NameOwnerChanged",
            Field.SENDER: BUS,
            Field.SIGNATURE: "sss",
        }
        body = dbus_wire.encode_strings(name, old, new)
        self._broadcast(Frame(Kind.SIGNAL, next(self._serials), dbus_wire.NO_REPLY_EXPECTED, fields, body))

    def _hello(self, sender: _Peer, frame: Frame) -> tuple[str, bytes]:
        self._owner_changed(sender.name, "", sender.name)
        return "s", dbus_wire.encode_strings(sender.name)

    def _request_name(self, sender: _Peer, frame: Frame) -> tuple[str, bytes]:
        name = dbus_wire.first_string(frame.body)
        owner = self._owners.get(name)
        if owner is not None:
            answer = _REQUEST_NAME_ALREADY if owner is sender else _REQUEST_NAME_EXISTS
            return "u", dbus_wire.encode_number(answer)
        self._owners[name] = sender
        sender.owned.add(name)
        self._owner_changed(name, "", sender.name)
        return "u", dbus_wire.encode_number(_REQUEST_NAME_OWNER)

    def _release_name(self, sender: _Peer, frame: Frame) -> tuple[str, bytes]:
        name = dbus_wire.first_string(frame.body)
        if name not in sender.owned:
            return "u", dbus_wire.encode_number(_NO_SUCH_NAME)
        sender.owned.discard(name)
        del self._owners[name]
        self._owner_changed(name, sender.name, "")
        return "u", dbus_wire.encode_number(_RELEASED)

    def _get_name_owner(self, sender: _Peer, frame: Frame) -> tuple[str, bytes]:
        name = dbus_wire.first_string(frame.body)
        owner = self._owners.get(name) or self._peers.get(name)
        if owner is None:
            raise LookupError(f"Could not get owner of name '{name}': no such name")
        return "s", dbus_wire.encode_strings(owner.name)

    def _name_has_owner(self, sender: _Peer, frame: Frame) -> tuple[str, bytes]:
        name = dbus_wire.first_string(frame.body)
        return "b", dbus_wire.encode_number(name == BUS or name in self._owners or name in self._peers)

    def _add_match(self, sender: _Peer, frame: Frame) -> tuple[str, bytes]:
        sender.rules += 1
        return "", b""

    def _remove_match(self, sender: _Peer, frame: Frame) -> tuple[str, bytes]:
        sender.rules = max(0, sender.rules - 1)
        return "", b""


async def _login(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """SASL EXTERNAL: the kernel says who the client is. Raises ProtocolError for another user."""
    connection = writer.get_extra_info("socket")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    _, user, _ = _PEER_CREDENTIALS.unpack(credentials)
    if await reader.readexactly(1) != b"\0":
        raise ProtocolError("a D-Bus client starts with a zero byte")
    authenticated = False
    while True:
        line = (await reader.readuntil(b"\r\n")).rstrip()
        if line == b"BEGIN" and authenticated:
            return
        if line == b"AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() and user == os.getuid():
            authenticated = True
            writer.write(b"OK 00000000000000000000000000000001\r\n")
        elif line == b"NEGOTIATE_UNIX_FD" and authenticated:
            # bleak's clients insist on it; nobody here sends one.
            writer.write(b"AGREE_UNIX_FD\r\n")
        elif line.startswith(b"AUTH"):
            writer.write(b"REJECTED EXTERNAL\r\n")
        else:
            writer.write(b"ERROR\r\n")
