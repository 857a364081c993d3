"""What stored readings of a device come to under its rules. No I/O, no Python loop per reading."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ingest_server.decoder import Float64s, Int32s, Int64s
from ingest_server.storage.frames.reading import Frames
from ingest_server.storage.line.corrected import (
    EVER,
    UNKNOWN,
    Calibration,
    Decoder,
    DeviceRules,
    Meant,
    apply,
    as_arrived,
)


@dataclass(frozen=True, slots=True)
class DeviceSeries:
    """profiles: that gave its readings their meaning, with when the server first met each (Unix µs), in that order."""

    series_id: int
    channel: str
    quantity: str
    unit: str
    profiles: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """n readings. times_us, created_us: Unix µs; arrived: their values as they arrived; revisions: that they follow."""

    times_us: Int64s
    created_us: Int64s
    arrived: Float64s
    series_ids: Int32s
    causes: Int32s
    reliability: Int32s
    revisions: Int32s

    def __len__(self) -> int:
        return len(self.times_us)


def reached(
    rule: Calibration | Decoder, series: Sequence[DeviceSeries], rules: DeviceRules
) -> tuple[tuple[DeviceSeries, ...], int]:
    """The series of a device that a rule reaches, and until when (Unix µs)."""
    if isinstance(rule, Decoder):
        return tuple(s for s in series if (s.channel, s.unit) in rule.channels), rule.to_us
    named = rule.channel, rule.unit
    # What a later one covers follows that one, before and after.
    later = [c.from_us for c in rules.calibrations if (c.channel, c.unit) == named and c.from_us > rule.from_us]
    return tuple(s for s in series if (s.channel, s.unit) == named), min(later, default=EVER)


def computed(
    rows: Stored,
    series: Sequence[DeviceSeries],
    profile_of: Mapping[int, str],
    rules: DeviceRules,
    frames: Frames,
) -> Meant:
    """What n readings come to. profile_of: the profile behind each revision of the device. frames: kept of their time.

    Where no rule reaches any more, readings are as they arrived, under the newest revision.
    """
    found = as_arrived(rows.arrived)
    for one in series:
        own = np.flatnonzero(rows.series_ids == one.series_id)
        if not len(own):
            continue
        profiles = _profiles(one, rows.created_us[own], rows.revisions[own], profile_of)
        for profile, chosen in profiles.items():
            members = own[chosen]
            found.revisions[members] = rules.revision(profile)
            times_us = rows.times_us[members]
            for piece in rules.pieces(one.channel, one.unit, profile):
                within = members[(times_us >= piece.from_us) & (times_us < piece.to_us)]
                if len(within):
                    apply(piece, within, rows.arrived, rows.times_us, frames, found)
    return found


def _profiles(
    one: DeviceSeries, created_us: Int64s, revisions: Int32s, profile_of: Mapping[int, str]
) -> dict[str, Int64s]:
    """Positions of a series' readings by the profile that gave them their meaning, as far as that is known."""
    found: dict[str, list[Int64s]] = {}
    for revision in np.unique(revisions).tolist():
        chosen = np.flatnonzero(revisions == revision)
        if revision:
            found.setdefault(profile_of[revision], []).append(chosen)
            continue
        # Written before a second profile was ever met, it can only be the first one's.
        second_us = one.profiles[1][1] if len(one.profiles) > 1 else None
        first = created_us[chosen] < second_us if second_us is not None else np.ones(len(chosen), np.bool_)
        for profile, mask in ((one.profiles[0][0] if one.profiles else UNKNOWN, first), (UNKNOWN, ~first)):
            if mask.any():
                found.setdefault(profile, []).append(chosen[mask])
    return {profile: np.concatenate(parts) for profile, parts in found.items()}
