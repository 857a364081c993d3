"""From two firmware profiles to the rule that turns readings of one into readings of the other.

A profile makes `raw × scale + offset` of a device's number, channel by channel. So from a value the number is known
again, wherever both profiles take it from the same place; elsewhere only a kept raw frame tells.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from firmware_profiles.profile import FirmwareProfile
from firmware_profiles.selection import ProfileSet
from ingest_server.storage.connection import Connection, sql, translated
from ingest_server.storage.line.corrected import Affine, Decoder
from ingest_server.storage.registry.places import NoSuchThing
from ingest_server.storage.registry.profiles import source_of


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """What a profile says of one channel. source: as source_of has it."""

    quantity: str
    unit: str
    scale: float
    offset: float
    source: str


Facts = Mapping[str, ChannelFacts]
"""By channel."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What becomes of a channel, and why where it stays as it is."""

    channel: str
    unit: str
    computed: bool
    why: str


def facts_of(profile: FirmwareProfile) -> dict[str, ChannelFacts]:
    """As the installed profile has it."""
    return {
        name: ChannelFacts(c.quantity, c.symbol, c.scale, c.offset, source_of(profile, name))
        for name, c in profile.channels.items()
    }


async def find_facts(connection: Connection, name: str, profiles: ProfileSet) -> dict[str, ChannelFacts]:
    """Of an installed profile, or of one that a server has published before another took its place.

    Raises NoSuchThing.
    """
    installed = profiles.named(name)
    if installed is not None:
        return facts_of(installed)
    with translated():
        cursor = await connection.execute(sql("correction/published_facts"), {"profile": name})
        found = {channel: ChannelFacts(*facts) for channel, *facts in await cursor.fetchall()}
    if not found:
        raise NoSuchThing(
            f"what profile {name} says is not known here: neither is it installed, nor did a server that knew it"
            " publish its scales"
        )
    return found


async def profiles_of(connection: Connection, device_id: int) -> list[str]:
    """Names of the profiles that ever gave readings of a device their meaning, the first one first."""
    with translated():
        cursor = await connection.execute(sql("correction/profiles_of_device"), {"device_id": device_id})
        return [row[0] for row in await cursor.fetchall()]


def between(was: str, old: Facts, name: str, new: Facts, from_us: int, to_us: int) -> tuple[Decoder, list[Difference]]:
    """The rule, and what becomes of each channel. Raises NoSuchThing where it would change what a series measures."""
    channels: dict[tuple[str, str], Affine | None] = {}
    differences = []
    for channel in sorted({*old, *new}):
        before, after = old.get(channel), new.get(channel)
        if before is None or after is None:
            known = before or after
            assert known is not None
            why = (
                f"{was} has no such channel: there is no reading that could be corrected"
                if before is None
                else f"{name} has no such channel: it stays as it is"
            )
            differences.append(Difference(channel, known.unit, False, why))
            continue
        if (before.quantity, before.unit) != (after.quantity, after.unit):
            raise NoSuchThing(
                f"channel {channel} is {before.quantity} in {before.unit or '1'} by {was}, and {after.quantity} in"
                f" {after.unit or '1'} by {name}: that is another series, which a correction does not make; give the"
                " channel of the new profile a name of its own"
            )
        if was == name:
            # Its codec was mended: numbers that came out of the old one tell nothing.
            channels[channel, before.unit] = None
            differences.append(Difference(channel, before.unit, False, "only what has a raw frame is decoded again"))
            continue
        if before.source != after.source:
            channels[channel, before.unit] = None
            why = "its number is taken from elsewhere: only what has a raw frame is decoded again"
            differences.append(Difference(channel, before.unit, False, why))
            continue
        channels[channel, before.unit] = Affine(before.scale, before.offset, after.scale, after.offset)
        differences.append(Difference(channel, before.unit, True, ""))
    return Decoder(0, was, name, from_us, to_us, channels), differences
