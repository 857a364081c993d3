"""Where batches come from: MQTT, acknowledged only after COMMIT."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gateway.link.backoff import FullJitter
from gateway.link.broker import BrokerOptions, ProtocolChoice
from gateway.link.errors import ControlError
from gateway.link.manual_ack_session import Incoming, ManualAckSession
from gateway.link.session_errors import SessionLost
from gateway.link.status import ServerStatus, parse
from gateway.link.wire import VERSION

log = logging.getLogger(__name__)

_RECONNECT_FIRST_S, _RECONNECT_LONGEST_S = 0.5, 5.0
# Not as long as gateways wait: few servers cannot stampede a broker, and the whole fleet waits for them.
_MAX_STATUSES = 20_000
# Gateways whose latest status waits to be heard: a status repeats every 30 s, so one too many may be left out.

_LEAST_WINDOW, _SILENCE_S = 10, 0.02
# Who has so many under way and falls silent may be waiting for us: mosquitto sends 20 ahead under MQTT 3.1.1, other
# brokers some 32 whatever they were asked for, and a gateway has a window of its own.

MAX_WAITING_BYTES = 268_435_456
"""Payloads that may wait. Not `receive_maximum` batches: mosquitto 2.0 sends up to that many for *each* acknowledgement
while it has a backlog, and MQTT 3.1.1 knows no such limit; a connection given up for that would lose the backlog."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A payload, the gateway on whose topic it came, when (monotonic s), and what tells the broker to forget it."""

    gateway: str
    payload: bytes
    arrived_s: float
    ack: Callable[[], None]


@dataclass(frozen=True, slots=True)
class ArrivedStatus:
    """The payload of a status, and when it came (monotonic s)."""

    payload: bytes
    arrived_s: float


class MqttSource:
    """Holds the session with the broker; hands out batches and the latest status of each gateway.

    The broker is asked to send no more than `receive_maximum` batches that are not acknowledged; should it send far
    more, the connection is given up, for nothing here may grow without bound. What is dropped so, the gateways send
    again.
    """

    def __init__(
        self,
        options: BrokerOptions,
        *,
        ledger_id: str,
        worker: str,
        receive_maximum: int,
        share: str | None,
        clock_s: Callable[[], float],
    ) -> None:
        self._options = options
        self._topics = options.topics
        self._ledger_id = ledger_id
        self._worker = worker
        self._receive_maximum = receive_maximum
        self._share = share
        self._clock_s = clock_s
        self._enough = max(1, receive_maximum // 2)
        self._batches: deque[Delivery] = deque()
        self._waiting_bytes = 0
        self._statuses: dict[str, ArrivedStatus] = {}
        self._batch_arrived = asyncio.Event()
        self._status_arrived = asyncio.Event()
        self._session: ManualAckSession | None = None
        self._overflow = asyncio.Event()
        self.alien = 0
        """Messages on topics that are no gateway's."""

    @property
    def connected(self) -> bool:
        return self._session is not None

    @property
    def waiting(self) -> int:
        """Batches that have arrived and that nobody has taken yet."""
        return len(self._batches)

    async def run(self) -> None:
        """Keeps a session open until cancelled."""
        choice = ProtocolChoice(self._options.protocol)
        backoff = FullJitter(_RECONNECT_FIRST_S, _RECONNECT_LONGEST_S)
        while True:
            try:
                await self._one_session(choice, backoff)
            except SessionLost as error:
                log.warning("broker %s:%d: %s", self._options.host, self._options.port, error)
            finally:
                self._session = None
                # Their acknowledgements went with the connection; the gateways send them again.
                self._batches.clear()
                self._waiting_bytes = 0
                self._batch_arrived.clear()
            await asyncio.sleep(backoff.next_s())

    async def _one_session(self, choice: ProtocolChoice, backoff: FullJitter) -> None:
        self._overflow.clear()
        away = ServerStatus(state="offline", worker=self._worker, ledger=self._ledger_id).payload()
        session = ManualAckSession(
            self._options,
            f"heal7-ingest-{self._worker}",
            (self._topics.server_status, away),
            choice.version5,
            self._receive_maximum,
            self._on_message,
        )
        try:
            await self._serve(session, choice, backoff, away)
        except SessionLost:
            # A broker that is down says nothing of its versions: it must not drive us to 3.1.1, where the broker's
            # own limit of messages under way (20 with mosquitto) makes small groups.
            if session.reached:
                choice.failed()
            raise

    async def _serve(self, session: ManualAckSession, choice: ProtocolChoice, backoff: FullJitter, away: bytes) -> None:
        async with session:
            await session.subscribe([*self._shared_topics(choice.version5), self._topics.server_status])
            choice.worked()
            backoff.reset()
            self._session = session
            log.info("connected to broker %s:%d", self._options.host, self._options.port)
            self._say_online()
            overflow = asyncio.create_task(self._overflow.wait(), name="overflow")
            lost = asyncio.create_task(session.lost(), name="session lost")
            try:
                await asyncio.wait([overflow, lost], return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                session.publish(self._topics.server_status, away, retain=True)
                raise
            finally:
                overflow.cancel()
                lost.cancel()
        raise SessionLost(lost.result() if lost.done() and not lost.cancelled() else "more than was asked for")

    def _shared_topics(self, version5: bool) -> list[str]:
        topics = [self._topics.all_batches, self._topics.all_statuses]
        if self._share is None:
            return topics
        if not version5:
            raise SessionLost("several workers share topics, which needs MQTT 5: unset `share` or use another broker")
        return [f"$share/{self._share}/{topic}" for topic in topics]

    def _say_online(self) -> None:
        status = ServerStatus(state="online", wire=(VERSION,), ledger=self._ledger_id, worker=self._worker)
        self.publish(self._topics.server_status, status.payload(), retain=True)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Sends if there is a connection, and says whether; what is not sent is repeated by the protocol."""
        if self._session is None:
            return False
        self._session.publish(topic, payload, retain=retain)
        return True

    def _on_message(self, message: Incoming) -> None:
        topic = message.topic
        if topic == self._topics.server_status:
            message.ack()
            self._on_server_status(message.payload)
            return
        gateway = self._topics.gateway_of(topic)
        if gateway is None:
            message.ack()
            self.alien += 1
        elif topic.endswith("/batch"):
            if self._waiting_bytes > MAX_WAITING_BYTES:
                self._overflow.set()
                return
            self._waiting_bytes += len(message.payload)
            self._batches.append(Delivery(gateway, message.payload, self._clock_s(), message.ack))
            self._batch_arrived.set()
        else:
            message.ack()
            if gateway in self._statuses or len(self._statuses) < _MAX_STATUSES:
                self._statuses[gateway] = ArrivedStatus(message.payload, self._clock_s())
            self._status_arrived.set()

    def _on_server_status(self, payload: bytes) -> None:
        try:
            status = parse(ServerStatus, payload)
        except ControlError as error:
            log.warning("server status: %s", error)
            return
        # Another worker left, or our own earlier connection's last will came late: somebody is still here.
        if status.state == "offline" and self._session is not None:
            self._say_online()

    async def batches(self, most: int, not_before_s: float) -> list[Delivery]:
        """At least one batch, at most so many; waits for the first.

        Until not_before_s (monotonic) it also waits for others, unless broker or gateways can send no more before we
        acknowledge: half of what was asked of the broker is there, or a good number, and then nothing for a while.
        """
        await self._arrived(1)
        while len(self._batches) < self._enough and (left_s := not_before_s - self._clock_s()) > 0:
            try:
                async with asyncio.timeout(min(left_s, _SILENCE_S)):
                    await self._arrived(len(self._batches) + 1)
            except TimeoutError:
                if len(self._batches) >= _LEAST_WINDOW:
                    break
        # The session may have ended meanwhile, and have taken with it what was here.
        await self._arrived(1)
        taken = [self._batches.popleft() for _ in range(min(most, len(self._batches)))]
        self._waiting_bytes -= sum(len(delivery.payload) for delivery in taken)
        return taken

    async def _arrived(self, enough: int) -> None:
        while len(self._batches) < enough:
            self._batch_arrived.clear()
            await self._batch_arrived.wait()

    async def statuses(self) -> dict[str, ArrivedStatus]:
        """The latest status of each gateway that has sent one since the last call; waits for the first."""
        while not self._statuses:
            self._status_arrived.clear()
            await self._status_arrived.wait()
        taken, self._statuses = self._statuses, {}
        return taken
