"""What firmware profiles state of their channels, where SQL can read it."""

from firmware_profiles.profile import FirmwareProfile
from firmware_profiles.selection import ProfileSet
from ingest_server.storage.connection import Connection, sql, transaction


async def publish(connection: Connection, profiles: ProfileSet) -> None:
    """Brings profile_channels up to date; a profile that this server lacks stays as long as a series names it."""
    channels = [
        (p.name, key, channel, source_of(p, key))
        for p in (*profiles, *profiles.superseded)
        for key, channel in p.channels.items()
    ]
    async with transaction(connection):
        await connection.execute(
            sql("registry/publish_profiles"),
            {
                "profiles": [name for name, _, _, _ in channels],
                "channels": [key for _, key, _, _ in channels],
                "accuracies": [None if c.accuracy is None else str(c.accuracy) for _, _, c, _ in channels],
                "minima": [c.minimum for _, _, c, _ in channels],
                "maxima": [c.maximum for _, _, c, _ in channels],
                "quantities": [c.quantity for _, _, c, _ in channels],
                "units": [c.symbol for _, _, c, _ in channels],
                "scales": [c.scale for _, _, c, _ in channels],
                "offsets": [c.offset for _, _, c, _ in channels],
                "sources": [source for _, _, _, source in channels],
            },
        )


def source_of(profile: FirmwareProfile, channel: str) -> str:
    """Where a channel's number comes from: two profiles that say the same here differ by scale and offset alone."""
    place = profile.channels[channel].register_ or profile.channels[channel].characteristic
    return profile.driver if place is None else f"{profile.driver} {place.model_dump_json()}"
