"""What firmware profiles state of their channels, where SQL can read it."""

from firmware_profiles.selection import ProfileSet
from ingest_server.storage.connection import Connection, sql, transaction


async def publish(connection: Connection, profiles: ProfileSet) -> None:
    """Brings profile_channels up to date; a profile that this server lacks stays as long as a series names it."""
    channels = [(p.name, key, channel) for p in profiles for key, channel in p.channels.items()]
    async with transaction(connection):
        await connection.execute(
            sql("registry/publish_profiles"),
            {
                "profiles": [name for name, _, _ in channels],
                "channels": [key for _, key, _ in channels],
                "accuracies": [None if c.accuracy is None else str(c.accuracy) for _, _, c in channels],
                "minima": [c.minimum for _, _, c in channels],
                "maxima": [c.maximum for _, _, c in channels],
            },
        )
