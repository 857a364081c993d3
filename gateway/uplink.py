"""Keeps a session with the broker, for ever: connects, talks, waits, connects again. It reads only from the spool."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from itertools import count
from secrets import randbits

from gateway.clock import Clock
from gateway.config import UplinkOptions
from gateway.conversation import Conversation
from gateway.link.backoff import FullJitter
from gateway.link.broker import BrokerOptions, ProtocolChoice
from gateway.link.session import Session
from gateway.link.session_errors import SessionLost
from gateway.sending import body_limit
from gateway.speaker import Speaker
from gateway.spool.runner import SpoolRunner
from gateway.uplink_state import UplinkState
from gateway.window import Window, WindowLimits

log = logging.getLogger(__name__)

# A session that lived for so long, or brought a receipt, was a sound one: the next wait is short again. A broker that
# accepts and then throws out at once would otherwise be called without a pause.
_SOUND_S = 10.0


OpenSession = Callable[[BrokerOptions, str, tuple[str, bytes], bool], Session]
"""Makes a session of the arguments that `Session` has, which is then entered."""


class Uplink:
    """`run` is one task of the daemon. body_limit_changed: told how large a body the broker takes (bytes, or None)."""

    def __init__(
        self,
        gateway: str,
        broker: BrokerOptions,
        options: UplinkOptions,
        spool: SpoolRunner,
        clock: Clock,
        *,
        body_limit_changed: Callable[[int | None], None] = lambda _: None,
        progress: Callable[[], None] = lambda: None,
        open_session: OpenSession = Session,
    ) -> None:
        # Never 0: the wire reserves it.
        self._speaker = Speaker(gateway, randbits(62) + 1, broker.topics)
        self._broker = broker
        self._options = options
        self._spool = spool
        self._clock = clock
        self._body_limit_changed = body_limit_changed
        self._progress = progress
        self._open_session = open_session
        self._window = Window(
            WindowLimits(
                options.live_batches,
                options.live_bytes,
                options.backlog_batches,
                options.backlog_bytes,
                options.resend_first_s,
                options.resend_longest_s,
            )
        )
        self._beats = count()
        self._wake = asyncio.Event()
        self._finishing = asyncio.Event()
        self._conversation: Conversation | None = None
        self.state = UplinkState()

    def wake(self) -> None:
        """Something new may be in the spool."""
        self._wake.set()

    def ask(self) -> None:
        """Compare books with the server now, as after another database was trusted."""
        if self._conversation is not None:
            self._conversation.ask()

    def finish(self) -> None:
        """Settle what can be settled within `drain_s`, say goodbye, and let `run` return."""
        self._finishing.set()

    async def run(self) -> None:
        """Until `finish`."""
        choice = ProtocolChoice(self._broker.protocol)
        backoff = FullJitter(self._options.reconnect_first_s, self._options.reconnect_longest_s)
        told = ""
        while not self._finishing.is_set():
            began_s, receipts = self._clock.now_s(), self.state.receipts
            try:
                await self._converse(choice)
            # SessionLost comes alone from connecting and subscribing, in a group from the tasks of a session.
            except* SessionLost as group:
                why = str(_first(group))
                # One line for an outage, however long: the health report says how often it was tried.
                log.log(logging.DEBUG if why == told else logging.WARNING, "%s", why)
                told = why
            else:
                return
            self._progress()
            if self.state.receipts > receipts or self._clock.now_s() - began_s >= _SOUND_S:
                backoff.reset()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff.next_s()):
                    await self._finishing.wait()

    async def _converse(self, choice: ProtocolChoice) -> None:
        speaker, state = self._speaker, self.state
        # With the instance in it, two boxes that share a name do not throw each other off the broker in turns: the
        # server is to see both, and says so.
        client_id = f"heal7-{speaker.gateway.replace('/', '-')}-{speaker.instance:016x}"
        will = (speaker.topics.status(speaker.gateway), speaker.offline())
        session = self._open_session(self._broker, client_id, will, choice.version5)
        state.session = "connecting"
        try:
            await session.__aenter__()
        except SessionLost:
            # A broker that is down says nothing about its versions: with `auto` we would settle on 3.1.1 for good.
            if session.reached:
                choice.failed()
            state.session = "not connected"
            raise
        try:
            choice.worked()
            state.connected = True
            state.sessions += 1
            log.info("connected to the broker %s:%d", self._broker.host, self._broker.port)
            self._body_limit_changed(body_limit(session, speaker))
            self._conversation = Conversation(
                session,
                speaker,
                self._options,
                self._spool,
                self._window,
                self._clock,
                state,
                lambda: next(self._beats),
                self._wake,
                self._finishing,
                self._progress,
            )
            await self._conversation.run()
        finally:
            self._conversation = None
            self._window.clear()
            state.connected = state.server_online = False
            state.session, state.live, state.backlog = "not connected", 0, 0
            await session.__aexit__()


def _first(group: BaseExceptionGroup[SessionLost]) -> SessionLost:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, SessionLost)
    return error
