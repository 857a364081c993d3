"""The server's end of the broker: paho on the event loop, with acknowledgements that the application gives.

The broker sends no more than `receive_maximum` messages that are not acknowledged (MQTT 5; under 3.1.1 the
broker's own limit rules): that is the server's flow control. An acknowledgement belongs to the connection that its
message came from; a session object is one connection and is not used again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from gateway.link.broker import BrokerOptions
from gateway.link.session_errors import SessionLost

_MISC_S = 1.0
# paho sends its keepalive from loop_misc, which somebody must call.


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message; `ack` tells the broker that it may forget it, and does nothing on a connection that is gone.

    topic: empty where the broker let one pass that is no text.
    """

    topic: str
    payload: bytes
    ack: Callable[[], None]


class ManualAckSession:
    """One connection, clean at both ends. `on_message` is called on the event loop and must not block."""

    def __init__(
        self,
        options: BrokerOptions,
        client_id: str,
        will: tuple[str, bytes],
        version5: bool,
        receive_maximum: int,
        on_message: Callable[[Incoming], None],
    ) -> None:
        self._options = options
        self._version5 = version5
        self._receive_maximum = receive_maximum
        self._deliver = on_message
        self._loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._lost: asyncio.Future[str] = self._loop.create_future()
        self._subscribed: dict[int, asyncio.Future[None]] = {}
        self._misc: asyncio.Task[None] | None = None
        self._sock: Any = None
        self.reached = False
        """Whether something took the TCP connection: only then does a failure speak against the MQTT version."""
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=mqtt.MQTTv5 if version5 else mqtt.MQTTv311,
            clean_session=None if version5 else True,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        if options.username is not None:
            password = options.password.get_secret_value() if options.password else None
            client.username_pw_set(options.username, password)
        client.will_set(will[0], will[1], qos=1, retain=True)
        client.max_inflight_messages_set(1000)
        client.connect_timeout = options.connect_timeout_s
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        self._client = client

    async def __aenter__(self) -> Self:
        properties = None
        if self._version5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.ReceiveMaximum = self._receive_maximum
        options = self._options
        # The look-up of the host and the TCP handshake block: not on the loop.
        connecting = self._loop.run_in_executor(
            None,
            lambda: self._client.connect(
                options.host,
                options.port,
                options.keepalive_s,
                clean_start=True if self._version5 else mqtt.MQTT_CLEAN_START_FIRST_ONLY,
                properties=properties,
            ),
        )
        try:
            # Shielded, for a thread cannot be cancelled: it goes on, and what it opens must be closed.
            await asyncio.shield(connecting)
            self.reached = True
            self._attach()
            async with asyncio.timeout(options.connect_timeout_s):
                await self._connected
        except (OSError, ValueError, TimeoutError) as error:
            raise SessionLost(f"no connection to the broker: {str(error) or 'no answer'}") from error
        finally:
            # Nobody waits for it any more: an exception in it would be logged as one that was never retrieved.
            self._connected.cancel()
            # Whatever went wrong, cancellation included: a reader left on the loop would keep its socket for ever.
            if self._connected.cancelled() or self._connected.exception() is not None:
                self._detach()
                connecting.add_done_callback(self._abandon)
        self._misc = asyncio.create_task(self._keep_alive(), name="mqtt keepalive")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._misc is not None:
            self._misc.cancel()
            await asyncio.wait([self._misc])
        self._client.disconnect()
        self._detach()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Queue a message with QoS 1. What a lost connection swallows, the protocol repeats."""
        self._client.publish(topic, payload, qos=1, retain=retain)

    async def subscribe(self, topics: list[str]) -> None:
        """Subscribe with QoS 1. Raises SessionLost where the broker refuses or does not answer."""
        wanted: list[tuple[str, Any]]
        if self._version5:
            wanted = [(topic, SubscribeOptions(qos=1)) for topic in topics]
        else:
            wanted = [(topic, 1) for topic in topics]
        result, mid = self._client.subscribe(wanted)
        if result != mqtt.MQTT_ERR_SUCCESS or mid is None:
            raise SessionLost(f"cannot subscribe to {topics}: {mqtt.error_string(result)}")
        answer = self._subscribed[mid] = self._loop.create_future()
        try:
            async with asyncio.timeout(self._options.connect_timeout_s):
                await asyncio.wait([answer, self._lost], return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError as error:
            raise SessionLost(f"the broker did not answer the subscription to {topics}") from error
        if not answer.done():
            raise SessionLost(self._lost.result())
        answer.result()

    async def lost(self) -> str:
        """Waits until the connection is gone; says why."""
        return await asyncio.shield(self._lost)

    def _attach(self) -> None:
        self._sock = self._client.socket()
        if self._sock is None:
            raise SessionLost("the broker closed the connection")
        self._client.on_socket_close = lambda *_: self._detach()
        self._client.on_socket_register_write = lambda *_: self._want_write(True)
        self._client.on_socket_unregister_write = lambda *_: self._want_write(False)
        self._loop.add_reader(self._sock, self._client.loop_read)
        self._want_write(self._client.want_write())

    def _abandon(self, connecting: "asyncio.Future[Any]") -> None:
        if not connecting.cancelled():
            connecting.exception()  # somebody must ask for it, or it is logged as one that nobody did
        sock: Any = self._client.socket()
        if sock is not None:
            sock.close()

    def _want_write(self, wanted: bool) -> None:
        if self._sock is None:
            return  # paho still asks while it tears its side down
        if wanted:
            self._loop.add_writer(self._sock, self._client.loop_write)
        else:
            self._loop.remove_writer(self._sock)

    def _detach(self) -> None:
        if self._sock is not None:
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()
            self._sock = None
        self._note_lost("connection closed")

    def _note_lost(self, why: str) -> None:
        if not self._lost.done():
            self._lost.set_result(why)
        if not self._connected.done():
            self._connected.set_exception(SessionLost(why))

    async def _keep_alive(self) -> None:
        while True:
            if self._client.loop_misc() != mqtt.MQTT_ERR_SUCCESS:
                self._note_lost("the broker did not answer in time")
                return
            await asyncio.sleep(_MISC_S)

    def _on_connect(self, _c: Any, _u: Any, _f: Any, reason: Any, _p: Any = None) -> None:
        if self._connected.done():
            return
        if reason.is_failure:
            self._connected.set_exception(SessionLost(f"the broker refused the connection: {reason}"))
        else:
            self._connected.set_result(None)

    def _on_disconnect(self, _c: Any, _u: Any, _f: Any, reason: Any, _p: Any = None) -> None:
        self._note_lost(f"disconnected: {reason}")

    def _on_subscribe(self, _c: Any, _u: Any, mid: int, reasons: Any, _p: Any = None) -> None:
        answer = self._subscribed.pop(mid, None)
        if answer is None or answer.done():
            return
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            answer.set_exception(SessionLost(f"the broker refused a subscription: {', '.join(refused)}"))
        else:
            answer.set_result(None)

    def _on_message(self, client: mqtt.Client, _u: Any, message: mqtt.MQTTMessage) -> None:
        mid, qos = message.mid, message.qos

        def ack() -> None:
            # After a disconnect paho would queue the ack for a connection that never heard of this message.
            if not self._lost.done():
                client.ack(mid, qos)

        try:
            topic = message.topic
        except UnicodeDecodeError:
            # Raised from here it would be logged and forgotten, and its place among the unacknowledged never freed.
            topic = ""
        self._deliver(Incoming(topic, bytes(message.payload), ack))
