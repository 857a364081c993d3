"""A TCP proxy on loopback that cuts, stalls, delays and half-opens what passes through it.

Its connections live on an event loop in a thread of its own, so that a test that waits does not hold up what it
watches. A `Watcher` sees whole streams and may answer, swallow or cut them.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

_CHUNK = 65_536
_LINGER_NOTHING = struct.pack("ii", 1, 0)
"""SO_LINGER that makes closing send RST, as a host does that has forgotten the connection."""

Upstream = tuple[str, int] | Path
"""Where a link leads: host and port, or a unix socket."""


class CutHere(Exception):
    """A watcher's wish: the connection ends here. `forward` still goes through before.

    silently: it does not end, but nothing passes any more, either way.
    """

    def __init__(self, forward: bytes, *, silently: bool = False) -> None:
        super().__init__()
        self.forward = forward
        self.silently = silently


class Watcher(Protocol):
    """Sees one connection's stream towards the upstream."""

    def up(self, data: bytes) -> tuple[bytes, bytes]:
        """What goes on to the upstream, and what is answered in its place. Raises CutHere."""


class Transparent:
    """Lets all through."""

    def up(self, data: bytes) -> tuple[bytes, bytes]:
        return data, b""


class _Connection:
    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter, watcher: Watcher) -> None:
        self.client = client
        self.server = server
        self.watcher = watcher
        self.half_open = False
        self.muted = False
        self.silent = False

    def abort(self) -> None:
        for writer in (self.client, self.server):
            _reset(writer)


class Link:
    """One proxied way. All but `port` and the counts belong to the loop: use the methods of `Proxy`."""

    def __init__(self, upstream: Upstream, watch: Callable[[], Watcher]) -> None:
        self.upstream = upstream
        self.watch = watch
        self.port = 0
        self.connections = 0
        self.delay_s = 0.0
        self.refusing = False
        self.open: list[_Connection] = []
        self.flowing = {"up": asyncio.Event(), "down": asyncio.Event()}
        for gate in self.flowing.values():
            gate.set()

    async def serve(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """One accepted connection, until either side ends it."""
        # Cancelled only by `close`; asyncio would print it for each connection.
        with suppress(asyncio.CancelledError):
            await self._serve(client_reader, client)

    async def _serve(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self.refusing:
            _reset(client)
            return
        try:
            if isinstance(self.upstream, Path):
                server_reader, server = await asyncio.open_unix_connection(self.upstream)
            else:
                server_reader, server = await asyncio.open_connection(*self.upstream)
        except OSError:
            _reset(client)
            return
        self.connections += 1
        connection = _Connection(client, server, self.watch())
        self.open.append(connection)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(connection, client_reader, server, "up"))
                tasks.create_task(self._pump(connection, server_reader, client, "down"))
        except* (OSError, _Ended):
            pass
        finally:
            self.open.remove(connection)
            # Of a half-open connection one side goes on believing in it, until the link is whole again.
            if not connection.half_open:
                connection.abort()

    async def _pump(
        self, connection: _Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str
    ) -> None:
        while True:
            data = await reader.read(_CHUNK)
            # The end of a stream waits behind a stalled line as any byte does.
            await self.flowing[way].wait()
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if not data:
                raise _Ended
            if connection.silent or (way == "down" and connection.muted):
                continue
            if way == "up":
                try:
                    data, answer = connection.watcher.up(data)
                except CutHere as cut:
                    connection.muted = True
                    writer.write(cut.forward)
                    await writer.drain()
                    if cut.silently:
                        connection.silent = True
                        continue
                    # Time for the upstream to act on it before the line is gone.
                    await asyncio.sleep(0.05)
                    connection.abort()
                    raise _Ended from None
                if answer:
                    connection.client.write(answer)
            writer.write(data)
            await writer.drain()


class _Ended(Exception):
    """A side has closed the connection."""


class Proxy:
    """Any number of links. To be closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._servers: list[asyncio.Server] = []
        self._orphans: list[asyncio.StreamWriter] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()

    def link(self, upstream: Upstream, watch: Callable[[], Watcher] = Transparent) -> Link:
        """A new link, open; its `port` is on loopback."""

        async def listen() -> Link:
            made = Link(upstream, watch)
            server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
            self._servers.append(server)
            made.port = server.sockets[0].getsockname()[1]
            return made

        return self._call(listen())

    def cut(self, link: Link) -> None:
        """Resets every connection, and refuses new ones until `mend`."""

        async def work() -> None:
            link.refusing = True
            for connection in list(link.open):
                connection.abort()

        self._call(work())

    def stall(self, link: Link, *ways: str) -> None:
        """Nothing passes "up", "down" or both until `mend`; the ends see silence."""

        async def work() -> None:
            for way in ways:
                link.flowing[way].clear()

        self._call(work())

    def half_open(self, link: Link, lost: str) -> None:
        """The "server" or the "client" loses the connections that are open; the other end hears nothing of it."""

        async def work() -> None:
            for connection in list(link.open):
                connection.half_open = True
                gone, left = (
                    (connection.server, connection.client)
                    if lost == "server"
                    else (connection.client, connection.server)
                )
                left.transport.pause_reading()  # type: ignore[attr-defined]  # it is a ReadTransport, too
                self._orphans.append(left)
                _reset(gone)

        self._call(work())

    def delay(self, link: Link, seconds: float) -> None:
        """Whatever passes takes so much longer each way, until `mend`."""

        async def work() -> None:
            link.delay_s = seconds

        self._call(work())

    def mend(self, link: Link) -> None:
        """The link is whole: new connections pass, stalled ones go on, half-open ones end."""

        async def work() -> None:
            link.refusing = False
            link.delay_s = 0.0
            for gate in link.flowing.values():
                gate.set()
            for writer in self._orphans:
                _reset(writer)
            self._orphans.clear()

        self._call(work())

    def close(self) -> None:
        """Ends every connection and the thread."""

        async def work() -> None:
            for server in self._servers:
                server.close()
            for writer in self._orphans:
                _reset(writer)
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            # Whoever spoke here is gone, and so these end by themselves: asyncio prints those that are cancelled.
            if others:
                await asyncio.wait(others, timeout=2)
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._call(work())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


def _reset(writer: asyncio.StreamWriter) -> None:
    found = writer.get_extra_info("socket")
    if found is not None and found.family != socket.AF_UNIX:
        with suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOTHING)
    writer.transport.abort()
