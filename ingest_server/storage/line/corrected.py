"""What values mean instead of what arrived: calibrations and decoders in force, as functions of the arrived value.

The decoder first: it says what the device's number should have come to; then the calibration, of that. Both are
computed from what arrived, never from a corrected value, and by this code alone, whether a reading arrives or is stored
already: the same reading comes to the same value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from device_drivers.reading import Series
from ingest_server.decoder import Columns, Float64s, Int32s, Int64s
from ingest_server.storage.connection import Connection, sql, transaction, translated
from ingest_server.storage.frames.reading import NO_FRAMES, Decode, Frames, undecoded
from ingest_server.storage.line.values import summable

UNKNOWN = ""
"""Stands for the profile of stored readings of which it is not known which profile gave them their meaning."""

EVER = 1 << 62
"""Where a rule ends that has no end, Unix µs."""


@dataclass(frozen=True, slots=True)
class Affine:
    """From a value that one profile gave to the one that another gives: back to the device's number, and forth."""

    was_scale: float
    was_offset: float
    scale: float
    offset: float

    def of(self, values: Float64s) -> Float64s:
        return (values - self.was_offset) / self.was_scale * self.scale + self.offset


@dataclass(frozen=True, slots=True)
class Calibration:
    """From from_us on (Unix µs), until the next one of the same channel and unit. coefficients: the constant first."""

    number: int
    channel: str
    unit: str
    from_us: int
    coefficients: tuple[float, ...]

    def of(self, values: Float64s) -> Float64s:
        found = np.full_like(values, self.coefficients[-1])
        for coefficient in self.coefficients[-2::-1]:
            found = found * values + coefficient
        return found


@dataclass(frozen=True, slots=True)
class Decoder:
    """In [from_us, to_us): what the profile `was` had given its meaning means what `profile` says.

    channels: by channel and unit, those that the rule reaches; None: only what has a raw frame can be computed.
    """

    number: int
    was: str
    profile: str
    from_us: int
    to_us: int
    channels: Mapping[tuple[str, str], Affine | None]


@dataclass(frozen=True, slots=True)
class Piece:
    """What becomes of a series' values in [from_us, to_us). decoder, calibration: None: stays as it is.

    revision: what such a row says of itself.
    """

    from_us: int
    to_us: int
    channel: str
    unit: str
    decoder: Decoder | None
    calibration: Calibration | None
    revision: int

    def of(self, values: Float64s, times_us: Int64s, frames: Frames) -> Float64s:
        # A polynomial may leave the range of numbers: whoever asked looks for that.
        with np.errstate(all="ignore"):
            decoded = self._decoded(values, times_us, frames)
            return decoded if self.calibration is None else self.calibration.of(decoded)

    def _decoded(self, values: Float64s, times_us: Int64s, frames: Frames) -> Float64s:
        if self.decoder is None:
            return values
        affine = self.decoder.channels[self.channel, self.unit]
        by_number = values if affine is None else affine.of(values)
        # What the bytes say goes before what follows from the number.
        by_frame = frames.values(self.decoder.was, self.decoder.profile, self.channel, times_us)
        return by_number if by_frame is None else np.where(np.isnan(by_frame), by_number, by_frame)


@dataclass(slots=True)
class DeviceRules:
    """Those of one device. number: of the newest, withdrawals with them. revisions: under these rules, by profile."""

    device_id: int
    number: int
    calibrations: list[Calibration] = field(default_factory=list)
    decoders: list[Decoder] = field(default_factory=list)
    revisions: dict[str, int] = field(default_factory=dict)

    def add(self, rule: Calibration | Decoder) -> None:
        """One more that is in force."""
        if isinstance(rule, Calibration):
            self.calibrations.append(rule)
        else:
            self.decoders.append(rule)

    def pieces(self, channel: str, unit: str, profile: str) -> tuple[Piece, ...]:
        """Of one series, in order of time, also where no rule reaches: one that comes later asks which profile gave a
        reading its meaning, and of a device with rules every reading that arrives says so.

        profile: UNKNOWN: what is stored in a decoder's interval is taken for the profile's that it names: so whoever
        made the rule has said.
        """
        own = [c for c in self.calibrations if (c.channel, c.unit) == (channel, unit)]
        decoders = [d for d in self.decoders if (channel, unit) in d.channels]
        cuts = sorted(
            {-EVER} | {c.from_us for c in own} | {at for d in decoders for at in (d.from_us, d.to_us)} | {EVER}
        )
        found = []
        for from_us, to_us in pairwise(cuts):
            covering = [d for d in decoders if d.from_us <= from_us < d.to_us]
            calibration = max(
                (c for c in own if c.from_us <= from_us), key=lambda c: (c.from_us, c.number), default=None
            )
            # Of several the newest: it says what was known last.
            decoder = max(
                (d for d in covering if profile in (UNKNOWN, d.was)), key=lambda decoder: decoder.number, default=None
            )
            whose = profile if decoder is None else decoder.was
            found.append(Piece(from_us, to_us, channel, unit, decoder, calibration, self.revision(whose)))
        return tuple(found)

    def revision(self, profile: str) -> int:
        """What a row says of itself whose value this profile gave its meaning."""
        # UNKNOWN always has one. Another lacks it where its device has too many, and while a rule comes into force.
        return self.revisions.get(profile, self.revisions[UNKNOWN])


@dataclass(frozen=True, slots=True)
class Meant:
    """n readings as rules have them: values; raw: what arrived, NaN where it is the value; revisions."""

    values: Float64s
    raw: Float64s
    revisions: Int32s


class Corrected:
    """The rules, by site and device. decode: how raw frames are read."""

    def __init__(self, decode: Decode = undecoded) -> None:
        self._decode = decode
        self._devices: dict[tuple[str, str], DeviceRules] = {}

    async def read(self, connection: Connection) -> None:
        """Learns those that are in force."""
        with translated():
            cursor = await connection.execute(sql("line/read_corrected_devices"))
            devices = await cursor.fetchall()
            cursor = await connection.execute(sql("line/read_corrections"))
            rules = await cursor.fetchall()
        self._devices = {}
        by_id: dict[int, DeviceRules] = {}
        for site, device, device_id, number, profiles, revisions in devices:
            known = dict(zip(profiles, revisions, strict=True))
            self._devices[site, device] = by_id[device_id] = DeviceRules(device_id, number, revisions=known)
        for device_id, number, kind, from_us, to_us, channel, unit, coefficients, was, profile, channels in rules:
            rule = rule_of(number, kind, from_us, to_us, channel, unit, coefficients, was, profile, channels)
            by_id[device_id].add(rule)

    def of(self, site: str, device: str) -> DeviceRules | None:
        """Those of a device that was ever corrected."""
        return self._devices.get((site, device)) if self._devices else None

    async def learn_revisions(self, connection: Connection, site: str, series: Sequence[Series]) -> None:
        """Makes the revisions that `of_table` needs, in a transaction of its own: a profile may be new to a device."""
        wanted = {
            (rules.device_id, s.profile)
            for s in series
            if (rules := self.of(site, s.device)) is not None and s.profile not in rules.revisions
        }
        if not wanted:
            return
        async with transaction(connection):
            await register_revisions(connection, sorted(wanted))
        await self.read(connection)

    def of_table(self, gateway: str, series: Sequence[Series]) -> "TableRules | None":
        """What becomes of a batch's series; None where none is of a device with rules."""
        if not self._devices:
            return None
        site = gateway.split("/", 1)[0]
        pieces: dict[int, tuple[Piece, ...]] = {}
        decoded: dict[int, tuple[str, str]] = {}
        for n, s in enumerate(series):
            rules = self._devices.get((site, s.device))
            if rules is None:
                continue
            pieces[n] = rules.pieces(s.channel, s.unit, s.profile)
            if any(d.was == s.profile for d in rules.decoders):
                decoded[n] = s.device, s.profile
        return TableRules(pieces, decoded, self._decode) if pieces else None


@dataclass(frozen=True, slots=True)
class TableRules:
    """Those of a batch's series, by index in its table. decoded: (device, profile) of those whose profile a rule names:
    the frames that their readings carry are read by `decode`."""

    pieces: Mapping[int, tuple[Piece, ...]]
    decoded: Mapping[int, tuple[str, str]]
    decode: Decode

    def frames_of(self, columns: Columns) -> dict[str, Frames]:
        """What a batch carries, by device."""
        found: dict[str, list[tuple[str, int, bytes]]] = {}
        for n, frame in columns.frames.items():
            carrier = self.decoded.get(int(columns.series[n]))
            if carrier is not None:
                found.setdefault(carrier[0], []).append((carrier[1], int(columns.times_us[n]), frame))
        return {device: Frames(parts, self.decode) for device, parts in found.items()}


def rule_of(
    number: int,
    kind: str,
    from_us: int,
    to_us: int | None,
    channel: str,
    unit: str,
    coefficients: list[float],
    was: str,
    profile: str,
    channels: Mapping[str, Mapping[str, Any]],
) -> Calibration | Decoder:
    """A row of the table `corrections`; to_us: None: without end."""
    if kind == "calibration":
        return Calibration(number, channel, unit, from_us, tuple(coefficients))
    return Decoder(number, was, profile, from_us, EVER if to_us is None else to_us, _affines(channels))


def _affines(channels: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], Affine | None]:
    """As the table keeps them: {channel: {unit, was: [scale, offset], is: [scale, offset]}}, or {unit}: by frame."""
    found: dict[tuple[str, str], Affine | None] = {}
    for channel, said in channels.items():
        scales = [*said.get("was", ()), *said.get("is", ())]
        found[channel, str(said["unit"])] = Affine(*map(float, scales)) if scales else None
    return found


async def register_revisions(connection: Connection, wanted: Sequence[tuple[int, str]]) -> None:
    """Gives each (device_id, profile) its revision under the newest rules of its device, within a transaction."""
    values = {"device_ids": [device_id for device_id, _ in wanted], "profiles": [profile for _, profile in wanted]}
    # First: two workers that meet the same new profile would give out the same number.
    await connection.execute(sql("line/lock_corrected"), values)
    await connection.execute(sql("line/register_revisions"), values)


def meant(columns: Columns, rules: TableRules | None) -> Meant | None:
    """What becomes of a batch's readings (n of each column); None where none is of a device with rules."""
    if rules is None or not len(columns.times_us):
        return None
    found: Meant | None = None
    pieces, frames = rules.pieces, rules.frames_of(columns)
    times_us = columns.times_us
    first_us, last_us = int(times_us.min()), int(times_us.max())
    for number in pieces.keys() & set(np.unique(columns.series).tolist()):
        for piece in pieces[number]:
            if piece.from_us <= last_us and piece.to_us > first_us:
                chosen = np.flatnonzero(
                    (columns.series == number) & (times_us >= piece.from_us) & (times_us < piece.to_us)
                )
                if len(chosen):
                    if found is None:
                        found = as_arrived(columns.values)
                    device, _ = rules.decoded.get(number, ("", ""))
                    apply(piece, chosen, columns.values, times_us, frames.get(device, NO_FRAMES), found)
    return found


def as_arrived(values: Float64s) -> Meant:
    """Readings that follow no rule."""
    return Meant(values.copy(), np.full(len(values), np.nan), np.zeros(len(values), np.int32))


def apply(piece: Piece, chosen: Int64s, arrived: Float64s, times_us: Int64s, frames: Frames, found: Meant) -> None:
    """Enters what a piece makes of the readings at `chosen`. What cannot be summed up is left as it arrived."""
    before = arrived[chosen]
    after = piece.of(before, times_us[chosen], frames)
    after = np.where(summable(after), after, before)
    found.values[chosen] = after
    found.raw[chosen] = np.where(after == before, np.nan, before)
    found.revisions[chosen] = piece.revision
