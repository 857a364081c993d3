"""Raw frames that were kept while no profile knew their firmware, decoded once one does.

A batch names the device and its firmware, not its model. So a frame is decoded only where its bytes prove whose they
are (a codec takes them whole, checksum and all) and exactly one profile for that codec holds the firmware.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType

import numpy as np

from device_drivers.interpretation import Interpreter
from device_drivers.reading import Reading, Series
from device_drivers.serial_line.plantower import FRAME_BYTES, PlantowerDecoder
from firmware_profiles.profile import FirmwareProfile
from firmware_profiles.selection import ProfileSet
from gateway.link.anchor import Anchor, clock_penalty
from ingest_server.decoder import Columns, Int32s

Numbers = Mapping[str, float]
"""What a frame says, by channel, in the device's own numbers."""


def _plantower(frame: bytes) -> Numbers | None:
    frames = PlantowerDecoder().feed(frame)
    return asdict(frames[0]) if len(frames) == 1 and len(frame) == FRAME_BYTES else None


CODECS: Mapping[str, Callable[[bytes], Numbers | None]] = MappingProxyType({"pms5003": _plantower})
"""By the `driver` of a profile. Bluetooth's advertisements are not here: their codec is a library of the gateway's."""


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
            readings += [interpreter.reading(channel, numbers[channel], at_us) for channel in interpreter.channels()]
            of += [n] * len(interpreter.channels())
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


def _meanings(firmware: str, frame: bytes, profiles: ProfileSet) -> list[tuple[FirmwareProfile, Numbers]]:
    """The only profile that gives this frame a meaning; empty where none does, or several do."""
    found: list[tuple[FirmwareProfile, Numbers]] = []
    for driver, decode in CODECS.items():
        numbers = decode(frame)
        if numbers is not None:
            found += [
                (p, numbers)
                for p in profiles
                if p.driver == driver and p.firmware.holds(firmware) and numbers.keys() >= p.channels.keys()
            ]
    return found if len(found) == 1 else []
