"""Raw frames that were kept while no profile knew their firmware, decoded once one does.

A batch names the device and its firmware, not its model. So a frame is decoded only where its bytes prove whose they
are (a codec takes them whole, checksum and all) and exactly one profile for that codec holds the firmware.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from device_drivers.interpretation import Interpreter
from device_drivers.reading import Reading, Series
from device_drivers.serial_line.codecs import FRAME_CODECS, read_line
from firmware_profiles.profile import FirmwareProfile
from firmware_profiles.selection import ProfileSet
from gateway.link.anchor import Anchor, clock_penalty
from ingest_server.decoder import Columns, Int32s
from ingest_server.storage.frames.reading import Decode

Numbers = Mapping[str, float]
"""What a frame says, by channel, in the device's own numbers."""


@dataclass(frozen=True, slots=True)
class DecodedFrames:
    """The readings of some frames of a batch. series: their table. of: for each reading, the index of its frame."""

    columns: Columns
    series: list[Series]
    of: Int32s


def decode_frames(
    columns: Columns, table: list[Series], indices: list[int], anchor: Anchor, profiles: ProfileSet
) -> DecodedFrames | None:
    """Decodes those of the batch's readings at `indices` that are raw frames with a known meaning now; None if none.

    The warm-up of a device is not known any more: readings within it are not marked.
    """
    interpreters: dict[tuple[Series, str], Interpreter] = {}
    readings: list[Reading] = []
    of: list[int] = []
    for n in indices:
        raw, frame = table[columns.series[n]], columns.frames.get(n)
        if raw.profile or frame is None:
            continue
        for profile, numbers in _meanings(raw.firmware, frame, profiles):
            key = raw, profile.name
            interpreter = interpreters.setdefault(key, Interpreter(raw.device, raw.firmware, profile))
            at_us = int(columns.times_us[n])
            said = [channel for channel in interpreter.channels() if channel in numbers]
            readings += [interpreter.reading(channel, numbers[channel], at_us) for channel in said]
            of += [n] * len(said)
    if not readings:
        return None
    number = {series: n for n, series in enumerate(dict.fromkeys(r.series for r in readings))}
    cap, cause = clock_penalty(anchor)
    return DecodedFrames(
        Columns(
            b"",
            np.array([r.taken_at_us for r in readings], np.int64),
            np.array([number[r.series] for r in readings], np.int32),
            np.array([r.value for r in readings], np.float64),
            np.minimum(np.array([r.reliability for r in readings], np.int32), cap),
            np.array([r.causes for r in readings], np.int32) | np.int32(cause),
            {},
        ),
        list(number),
        np.array(of, np.int32),
    )


def decode_by(profiles: ProfileSet) -> Decode:
    """By what is installed; None for a profile that is not, and for bytes that are no frame of its device."""
    known = {p.name: p for p in (*profiles, *profiles.superseded) if p.driver in FRAME_CODECS}

    def decode(name: str, frame: bytes) -> Numbers | None:
        profile = known.get(name)
        sample = None if profile is None else FRAME_CODECS[profile.driver].read_whole(frame)
        if profile is None or sample is None:
            return None
        channels = profile.channels.values()
        return {c.name: c.value(sample.values[c.name]) for c in channels if c.name in sample.values}

    return decode


def _meanings(firmware: str, frame: bytes, profiles: ProfileSet) -> list[tuple[FirmwareProfile, Numbers]]:
    """The only profile that gives this frame a meaning; empty where none does, or several do.

    Bluetooth's advertisements never have one here: their codecs are libraries of the gateway's.
    """
    if not firmware:
        # Kept raw because no profile knows the model, which a batch does not name: any profile would be a guess.
        return []
    found: list[tuple[FirmwareProfile, Numbers]] = []
    for driver, codec in FRAME_CODECS.items():
        sample = codec.read_whole(frame)
        if sample is not None:
            found += [
                (p, sample.values)
                for p in profiles
                if p.driver == driver and p.firmware.holds(firmware) and set(codec.channels) >= p.channels.keys()
            ]
    for p in profiles:
        if p.line is not None and p.firmware.holds(firmware):
            sample = read_line(p, frame)
            if sample is not None and sample.firmware in ("", firmware):
                found.append((p, sample.values))
    return found if len(found) == 1 else []
