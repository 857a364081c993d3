"""What `profiles list` and `show` say: for a person as lines, for a program as plain objects."""

import textwrap
from collections.abc import Sequence
from typing import Any

from firmware_profiles.gatt import short_uuid
from firmware_profiles.profile import Channel, FirmwareProfile
from firmware_profiles.selection import Loaded


def plain(file: str, profile: FirmwareProfile) -> dict[str, Any]:
    """All that the profile says, and the symbol of each unit."""
    said = profile.model_dump(mode="json", by_alias=True, exclude_none=True)
    for name, channel in profile.channels.items():
        said["channels"][name]["symbol"] = channel.symbol
    return {"file": file, **said}


def listed(profiles: Sequence[Loaded], width: int | None = None) -> list[str]:
    """A line for each; for a terminal of that width, where nobody could read such lines, some for each."""
    if width is not None:
        return [line for _, profile in profiles for line in _entry(profile, width)]
    rows: list[Sequence[str]] = [("MODELS", "MANUFACTURER", "FIRMWARE", "DRIVER", "PROFILE", "CHANNELS")]
    rows += [
        (
            ", ".join(p.models),
            p.manufacturer,
            str(p.firmware),
            p.driver,
            p.name,
            ", ".join(p.channels),
        )
        for _, p in profiles
    ]
    return columns(rows)


def _entry(profile: FirmwareProfile, width: int) -> list[str]:
    facts = [profile.name, profile.manufacturer, f"driver {profile.driver}", f"firmware {profile.firmware}"]
    lists = {"models": profile.models, "channels": profile.channels}
    return [
        ", ".join(facts),
        *(
            line
            for name, members in lists.items()
            for line in textwrap.wrap(
                f"  {name:10}{', '.join(members)}",
                max(width, 40),
                subsequent_indent=" " * 12,
                break_long_words=False,
                break_on_hyphens=False,
            )
        ),
    ]


def shown(file: str, profile: FirmwareProfile) -> list[str]:
    """What readings of these devices would mean, and who says so."""
    sampling = profile.sampling
    facts = {
        "profile": f"{profile.name} ({file})",
        "models": ", ".join(profile.models),
        "manufacturer": profile.manufacturer,
        "driver": profile.driver,
        "firmware": str(profile.firmware),
        "warm-up": f"{profile.warm_up_s:g} s" if profile.warm_up_s else "",
        "asked": f"at most every {sampling.min_interval_s:g} s" if sampling.min_interval_s else "",
        "kept": _kept(profile),
    }
    lines = [f"{name:14}{fact}" for name, fact in facts.items() if fact]
    lines += ["", *columns(_channels(profile)), ""]
    for name, source in profile.sources.items():
        where = [source.title, source.revision or "", source.url or source.document or ""]
        lines.append(f"source {name}: {', '.join(part for part in where if part)}")
        if source.note is not None:
            lines.append(f"  note: {source.note}")
    return lines


def _kept(profile: FirmwareProfile) -> str:
    if not profile.sampling.interval_s:
        return ""
    at_once = ", ".join(profile.sampling.on_change)
    return f"one in {profile.sampling.interval_s:g} s" + (f", and at once where {at_once} changes" if at_once else "")


def _channels(profile: FirmwareProfile) -> list[Sequence[str]]:
    heads = ("CHANNEL", "FROM", "QUANTITY", "UNIT", "RANGE", "RESOLUTION", "SOURCE", "ACCURACY")
    rows = [heads, *(_row(channel) for channel in profile.channels.values())]
    if any(_place(channel) for channel in profile.channels.values()):
        return list(rows)
    # Of a driver that knows its frames: each channel has its place in them.
    return [row[:1] + row[2:] for row in rows]


def _place(channel: Channel) -> str:
    """Where in what the device says the number is; empty where the driver knows."""
    register, characteristic = channel.register_, channel.characteristic
    if register is not None:
        bit = "" if register.bit is None else f" bit {register.bit}"
        return f"{register.table} {register.address} {register.type}{bit}"
    if characteristic is not None:
        offset = f" at {characteristic.offset}" if characteristic.offset else ""
        return f"{short_uuid(characteristic.uuid)} {characteristic.type}{offset}"
    return channel.field or ""


def _row(channel: Channel) -> tuple[str, ...]:
    return (
        channel.name,
        _place(channel),
        channel.quantity,
        channel.symbol or "-",
        f"{channel.minimum:g} to {channel.maximum:g}",
        "-" if channel.resolution is None else f"{channel.resolution:g}",
        channel.source or "-",
        _accuracy(channel),
    )


def _accuracy(channel: Channel) -> str:
    if channel.accuracy is None:
        return "-"
    if isinstance(channel.accuracy, str):
        return channel.accuracy
    return f"±{channel.accuracy:g} {channel.symbol}".rstrip()


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Each cell under the one above it; the last as long as it is."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
