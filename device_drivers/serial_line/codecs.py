"""Every codec, by the kind that a configuration names. A new one is an entry here."""

from collections.abc import Mapping
from types import MappingProxyType

from device_drivers.serial_line import mhz19b, sps30, text_line
from device_drivers.serial_line.codec import FrameCodec, Sample, StreamCodec
from device_drivers.serial_line.ld2410 import LD2410
from device_drivers.serial_line.ld2450 import LD2450
from device_drivers.serial_line.plantower import PLANTOWER
from device_drivers.serial_line.sds011 import SDS011
from firmware_profiles.profile import FirmwareProfile

STREAM_CODECS: Mapping[str, StreamCodec] = MappingProxyType(
    {"pms5003": PLANTOWER, "sds011": SDS011, "ld2410": LD2410, "ld2450": LD2450}
)

FRAME_CODECS: Mapping[str, FrameCodec] = MappingProxyType(
    {kind: FrameCodec(codec.channels, codec.read_whole) for kind, codec in STREAM_CODECS.items()}
    | {
        "mhz19b": FrameCodec(mhz19b.CHANNELS, mhz19b.read_whole),
        "sps30": FrameCodec(sps30.CHANNELS, sps30.read_whole),
    }
)
"""Of everything on serial lines whose single frames say what was measured: for frames that were kept raw."""


def read_line(profile: FirmwareProfile, line: bytes) -> Sample | None:
    """The same of a line of text, whose codec is its profile; None where it is none of its lines."""
    return text_line.read_whole(profile, line)
