"""The standing rules that arriving readings are screened by: what is erased, and what values mean instead.

A reading is screened by the rules of one number; its transaction commits only where that number is still the newest.
"""

from ingest_server.errors import StorageError
from ingest_server.storage.connection import Connection, sql, translated
from ingest_server.storage.frames.reading import Decode, undecoded
from ingest_server.storage.line.corrected import Corrected
from ingest_server.storage.line.erased import Erased

RULES_LOCK = 0x48454103
"""Of the transaction: whoever writes readings shares it, a rule coming into force has it alone."""


class RulesChanged(StorageError):
    """A rule came into force after these readings were screened: screen them again."""


class Rules:
    """Those in force. number: grows with each that comes into force, of whichever kind."""

    def __init__(self, decode: Decode = undecoded) -> None:
        self.number = 0
        self.erased = Erased()
        self.corrected = Corrected(decode)

    async def follow(self, connection: Connection) -> bool:
        """Reads them anew where one has come into force since; whether one has."""
        with translated():
            number = await _newest(connection)
            if number == self.number:
                return False
            # After the number: what comes into force in between is known here, and met again by `require_rules`.
            await self.erased.read(connection)
            await self.corrected.read(connection)
            self.number = number
        return True


async def require_rules(connection: Connection, number: int) -> None:
    """Keeps rules from coming into force until the caller's transaction ends.

    Raises RulesChanged where others than those up to `number` are in force already.
    """
    await connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (RULES_LOCK,))
    # A statement of its own: it sees what was committed while the one before waited.
    if await _newest(connection) != number:
        raise RulesChanged("a rule came into force meanwhile")


async def hold_rules(connection: Connection) -> None:
    """Until the caller's transaction ends, alone: who was writing has committed, who writes next sees its rule."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (RULES_LOCK,))


async def _newest(connection: Connection) -> int:
    cursor = await connection.execute(sql("line/rules_in_force"))
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])
