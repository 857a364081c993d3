"""The gateway's end of the broker: aiomqtt, and nothing of it beyond this module.

PUBACK promises nothing here (WIRE.md §1), so it does not matter that aiomqtt acknowledges what it receives
before the application has it: receipts may be lost, they are repeated.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any, Self

import aiomqtt

from gateway.link.broker import BrokerOptions
from gateway.link.session_errors import SessionLost

_PENDING_PUBLISHES = 4096
# The gateway's own windows bound what is under way; aiomqtt's warning at ten would flood the log.


_PENDING_MESSAGES = 1024
# Receipts that wait for a slow disk: more than these are lost, and repeated by the protocol.


class _Client(aiomqtt.Client):
    """Keeps the broker's limits, which aiomqtt does not hand on."""

    maximum_packet_size: int | None = None
    receive_maximum: int | None = None
    line: Any = None

    def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:
        self.line = sock
        super()._on_socket_open(client, userdata, sock)

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        # aiomqtt hands the loop the descriptor's number, for its next turn. A connection that ends in this one, as when
        # a broker dies while a batch is published, has closed it by then, or somebody else has it.
        self._loop.call_soon_threadsafe(self._await_writable, client, sock)

    def _await_writable(self, client: Any, sock: Any) -> None:
        if sock.fileno() >= 0:
            self._loop.add_writer(sock.fileno(), client.loop_write)

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        self.maximum_packet_size = getattr(properties, "MaximumPacketSize", None)
        self.receive_maximum = getattr(properties, "ReceiveMaximum", None)
        super()._on_connect(client, userdata, flags, reason_code, properties)


class Session:
    """One connection, clean at both ends. Enter it, subscribe, publish, iterate over `messages`.

    Raises SessionLost from every method once the connection is gone.
    """

    def __init__(self, options: BrokerOptions, client_id: str, will: tuple[str, bytes], version5: bool) -> None:
        topic, payload = will
        self._client = _Client(
            options.host,
            options.port,
            username=options.username,
            password=options.password.get_secret_value() if options.password else None,
            identifier=client_id,
            protocol=aiomqtt.ProtocolVersion.V5 if version5 else aiomqtt.ProtocolVersion.V311,
            clean_session=None if version5 else True,
            keepalive=options.keepalive_s,
            timeout=options.connect_timeout_s,
            max_inflight_messages=_PENDING_PUBLISHES,
            max_queued_incoming_messages=_PENDING_MESSAGES,
            will=aiomqtt.Will(topic, payload, qos=1, retain=True),
        )
        self._client.pending_calls_threshold = _PENDING_PUBLISHES

    @property
    def reached(self) -> bool:
        """Whether something took the TCP connection: only then does a failure speak against the MQTT version."""
        return self._client.line is not None

    @property
    def maximum_packet_size(self) -> int | None:
        """Bytes of the largest packet that the broker takes; None where it did not say."""
        return self._client.maximum_packet_size

    @property
    def receive_maximum(self) -> int:
        """Publishes that the broker takes before it has acknowledged one; paho does not keep to it by itself."""
        return self._client.receive_maximum or _PENDING_PUBLISHES

    async def __aenter__(self) -> Self:
        try:
            await self._client.__aenter__()
        except (aiomqtt.MqttError, OSError) as error:
            raise SessionLost(f"no connection to the broker: {error}") from error
        return self

    async def __aexit__(self, *exc: object) -> None:
        # It may be gone already, which is what leaving wants.
        with contextlib.suppress(aiomqtt.MqttError, OSError):
            await self._client.__aexit__(None, None, None)

    def cut(self) -> None:
        """Ends the connection without a word, as a cable that is pulled out: for outages that are simulated."""
        # It may have ended by itself.
        with contextlib.suppress(OSError):
            self._client.line.shutdown(socket.SHUT_RDWR)

    async def subscribe(self, topic: str) -> None:
        """Subscribe with QoS 1."""
        try:
            await self._client.subscribe(topic, qos=1)
            _heed_cancellation()
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            raise SessionLost(f"cannot subscribe to {topic}: {error}") from error

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish with QoS 1; returns when the broker has acknowledged, which frees nothing."""
        try:
            await self._client.publish(topic, payload, qos=1, retain=retain)
            _heed_cancellation()
        except (aiomqtt.MqttError, OSError, ValueError) as error:
            raise SessionLost(f"cannot publish to {topic}: {error}") from error

    async def messages(self) -> AsyncIterator[tuple[str, bytes]]:
        """What arrives, as topic and payload; ends only by SessionLost."""
        try:
            async for message in self._client.messages:
                yield str(message.topic), bytes(message.payload)
        except (aiomqtt.MqttError, OSError) as error:
            raise SessionLost(f"connection to the broker lost: {error}") from error


def _heed_cancellation() -> None:
    """Raises CancelledError where it was asked for.

    `asyncio.wait_for` of Python 3.11, which aiomqtt uses, swallows a cancellation that comes in the same turn of the
    loop as its result: the task would go on for ever, and whoever stops it would wait for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
