"""What kept frames say by another profile, or by a codec that was mended. No I/O."""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from ingest_server.decoder import Float64s, Int64s

Decode = Callable[[str, bytes], Mapping[str, float] | None]
"""From a profile's name and a frame to the values that it means, by channel; None where this is not to be had."""


def undecoded(profile: str, frame: bytes) -> None:
    """Of whoever has no codecs: numbers alone are corrected."""
    del profile, frame


class Frames:
    """Frames of one device, by the profile that gave them their meaning and the time of their readings (Unix µs)."""

    def __init__(self, frames: Iterable[tuple[str, int, bytes]], decode: Decode) -> None:
        self._decode = decode
        self._frames: dict[str, dict[int, bytes]] = {}
        self._said: dict[tuple[str, int, str], Mapping[str, float]] = {}
        for profile, at_us, frame in frames:
            self._frames.setdefault(profile, {})[at_us] = frame

    def values(self, was: str, profile: str, channel: str, times_us: Int64s) -> Float64s | None:
        """What frames that `was` decoded say of a channel by `profile`, for n readings; NaN where there is no frame, or
        it does not say. None where there is none at all."""
        frames = self._frames.get(was)
        if not frames:
            return None
        found = np.full(len(times_us), np.nan)
        # One by one: codecs take frames so.
        for n, at_us in enumerate(times_us.tolist()):
            if at_us in frames:
                found[n] = self._of(was, at_us, frames[at_us], profile).get(channel, np.nan)
        return found

    def _of(self, was: str, at_us: int, frame: bytes, profile: str) -> Mapping[str, float]:
        key = was, at_us, profile
        said = self._said.get(key)
        if said is None:
            # Each channel of a frame asks for it.
            said = self._said[key] = self._decode(profile, frame) or {}
        return said


NO_FRAMES = Frames((), undecoded)
