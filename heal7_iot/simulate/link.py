"""One gateway's way to the broker, which can be interrupted."""

from gateway.link.broker import BrokerOptions
from gateway.link.session import Session
from gateway.link.session_errors import SessionLost


class Link:
    """`open` is what an uplink opens its sessions with. attempts: to connect, those during an outage included."""

    def __init__(self) -> None:
        self.attempts = 0
        self._up = True
        self._session: Session | None = None

    @property
    def up(self) -> bool:
        """Whether there is no outage now."""
        return self._up

    def cut(self) -> None:
        """An outage begins: the connection ends without a word, and none is made until `mend`."""
        self._up = False
        if self._session is not None:
            self._session.cut()

    def mend(self) -> None:
        """The outage is over; when its gateway notices is the gateway's own affair."""
        self._up = True

    def open(self, options: BrokerOptions, client_id: str, will: tuple[str, bytes], version5: bool) -> Session:
        """A session over this link."""
        return _LinkedSession(self, options, client_id, will, version5)

    def try_once(self) -> None:
        """Raises SessionLost during an outage."""
        self.attempts += 1
        if not self._up:
            raise SessionLost("no connection to the broker: an outage is simulated")

    def carry(self, session: Session | None) -> None:
        """The session that a cut ends; None: there is none any more."""
        self._session = session
        if session is not None and not self._up:
            session.cut()


class _LinkedSession(Session):
    def __init__(
        self, link: Link, options: BrokerOptions, client_id: str, will: tuple[str, bytes], version5: bool
    ) -> None:
        super().__init__(options, client_id, will, version5)
        self._link = link

    async def __aenter__(self) -> "_LinkedSession":
        self._link.try_once()
        await super().__aenter__()
        # The outage may have begun while it connected.
        self._link.carry(self)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._link.carry(None)
        await super().__aexit__(*exc)
