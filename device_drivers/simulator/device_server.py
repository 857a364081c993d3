"""A serial line behind a TCP port without the device server, as it gives it in raw mode: to one client at a time."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Self


class EmulatedDeviceServer:
    """Listens on this machine from the start, on a port of the kernel's choice that stays the same.

    Whoever connects takes the line from whoever had it. Nothing here waits, so it may be driven from an event loop.
    """

    def __init__(self) -> None:
        self._address = ("127.0.0.1", 0)
        self._listener: socket.socket | None = None
        self._client: socket.socket | None = None
        self._serving: tuple[asyncio.AbstractEventLoop, Callable[[bytes], None]] | None = None
        self.replug()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def port(self) -> str:
        """As a configuration names it."""
        host, number = self._address
        return f"socket://{host}:{number}"

    def serve(self, heard: Callable[[bytes], None]) -> None:
        """From now on `heard` is told what comes, also after it was plugged in again. Within an event loop."""
        self._serving = asyncio.get_running_loop(), heard
        self._watch()

    def write(self, data: bytes) -> int:
        """Sends any bytes and returns how many were taken; without a client they are lost."""
        self._accept()
        if self._client is None:
            return 0
        try:
            return self._client.send(data)
        except OSError:
            # It has left, or does not read: a line has no place to keep what nobody takes.
            return 0

    def hang_up(self) -> None:
        """It loses its power: the client gets an end, and nobody can connect."""
        self._drop()
        if self._listener is not None:
            self._forget(self._listener)
            self._listener = None

    def replug(self) -> None:
        """It comes back on the same port."""
        self.hang_up()
        self._listener = socket.create_server(self._address)
        self._listener.setblocking(False)
        self._address = self._listener.getsockname()
        self._watch()

    def close(self) -> None:
        """Gives everything back; may be called again."""
        self.hang_up()

    def _watch(self) -> None:
        if self._serving is not None and self._listener is not None:
            self._serving[0].add_reader(self._listener, self._accept)
        if self._serving is not None and self._client is not None:
            self._serving[0].add_reader(self._client, self._hear)

    def _accept(self) -> None:
        if self._listener is None:
            return
        with contextlib.suppress(BlockingIOError):
            client, _ = self._listener.accept()
            self._drop()
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._client = client
            self._watch()

    def _hear(self) -> None:
        assert self._client is not None
        assert self._serving is not None
        try:
            data = self._client.recv(4096)
        except OSError:
            data = b""
        if data:
            self._serving[1](data)
        else:
            self._drop()

    def _drop(self) -> None:
        if self._client is not None:
            self._forget(self._client)
            self._client = None

    def _forget(self, what: socket.socket) -> None:
        if self._serving is not None:
            self._serving[0].remove_reader(what)
        what.close()
