"""Every codec of a sensor that sends by itself, by the kind that a configuration names. A new one is an entry here."""

from collections.abc import Mapping
from types import MappingProxyType

from device_drivers.serial_line.codec import StreamCodec
from device_drivers.serial_line.ld2410 import LD2410
from device_drivers.serial_line.ld2450 import LD2450
from device_drivers.serial_line.plantower import PLANTOWER
from device_drivers.serial_line.sds011 import SDS011

STREAM_CODECS: Mapping[str, StreamCodec] = MappingProxyType(
    {"pms5003": PLANTOWER, "sds011": SDS011, "ld2410": LD2410, "ld2450": LD2450}
)
