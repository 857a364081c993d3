"""A profile to be filled in: everything that can be known beforehand, and `""` where only the manual knows."""

import re
from dataclasses import dataclass

from device_drivers.serial_line.codecs import FRAME_CODECS
from firmware_profiles.schema import PUBLISHED

MODEL = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,50})/([A-Za-z0-9][A-Za-z0-9_. -]{0,50})")
"""VENDOR/MODEL."""


@dataclass(frozen=True, slots=True)
class _Placed:
    """Of drivers that a profile tells where a number is. table: for all of them; place: for each channel."""

    table: str
    place: str


_PLACED = {
    "modbus": _Placed(
        "# Addresses count from 0: what a manual calls 40001 or 30001 is 0. `input` is read by function 4.\n[modbus]\n",
        'register = { table = "holding", address = "", type = "int16" }   # uint16, int32, uint32, float32\n',
    ),
    "line": _Placed(
        '[line]\nformat = ""   # "json", "csv" or "key_value"\n'
        '# columns = ["seconds", "level"]   # of csv, and there all of them\n'
        '# checksum = "crc16"   # or "xor": hexadecimal behind a * at the end\n'
        '# firmware_field = "version"   # where the line states the version of its program\n',
        'field = ""   # the key of the number in the line, or a path such as air.temp; of csv one of columns\n',
    ),
    "gatt": _Placed(
        "# A channel's characteristic takes more: offset, byte_order, not_known = [0x8000], notify = true.\n[gatt]\n",
        'characteristic = { uuid = "", type = "int16" }   # with its four hexadecimal digits, or in full\n',
    ),
}


def file_name(vendor: str, model: str) -> str:
    """Below the folder of profiles: `acme/th-100.toml`."""
    return f"{_slug(vendor)}/{_slug(model)}.toml"


def skeleton(vendor: str, model: str, driver: str) -> str:
    """The text of a profile for one model. It is refused until every `""` in it has its value."""
    placed = _PLACED.get(driver)
    codec = FRAME_CODECS.get(driver)
    channels = codec.channels if codec is not None else ("temperature",)
    head = f"""\
#:schema {PUBLISHED}
# {vendor} {model}. Each "" wants a value; `heal7-iot profiles validate` names those that are left.
name = "{_slug(vendor)}-{_slug(model)}/1"   # of whatever you correct later, the revision behind the slash goes up
models = ["{model}"]   # as a [[driver]] names it
manufacturer = "{vendor}"
driver = "{driver}"
# firmware = ">=1.4,<2"   # where other versions mean something else
# warm_up_s = 30   # seconds after power-up in which values are doubtful

# [sampling]
# min_interval_s = 2   # the device may not be asked more often

# Where the facts are from. Say in `note` what you could not check.
[sources.manual]
title = ""
document = ""   # its file or number; or url = "https://…"
# revision = "V1.0"
# note = ""
"""
    tables = [head, *([placed.table] if placed is not None else [])]
    for channel in channels:
        about = "# A table for each number that the device gives; its name is yours.\n" if codec is None else ""
        tables.append(about + _channel(channel, placed.place if placed is not None else ""))
    return "\n".join(text.strip("\n") + "\n" for text in tables)


def _channel(name: str, place: str) -> str:
    return f"""\
[channels.{name}]
quantity = ""   # what is measured, such as "temperature": comparable between devices
unit = ""   # UCUM: "Cel", "%", "[ppm]", "ug/m3", "hPa", "lx"; "1" for a plain number, or yes (1) and no (0)
scale = 1   # value = number × scale + offset
offset = 0
minimum = ""   # the range that the manual vouches for, in the unit
maximum = ""
# accuracy = 0.5   # in the unit, or in words
# resolution = 0.1
source = "manual"
{place}"""


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")
