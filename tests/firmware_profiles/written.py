"""Profiles as tests write them."""

from pathlib import Path

from firmware_profiles.selection import ProfileSet

SOURCE = 'sources.made_up = { title = "made up", document = "this test" }'

GOOD = f"""
name = "thing/1"
models = ["Thing"]
manufacturer = "Somebody"
driver = "thing"
warm_up_s = 1.5
firmware = ">=1,<2"
{SOURCE}

[sampling]
interval_s = 5
on_change = ["temperature"]
min_interval_s = 2

[channels.temperature]
quantity = "temperature"
unit = "Cel"
scale = 0.1
offset = -40
minimum = -40
maximum = 85
accuracy = 0.3
resolution = 0.1
source = "made_up"
"""

MODBUS = f"""
name = "meter/1"
models = ["Meter"]
manufacturer = "Somebody"
driver = "modbus"
{SOURCE}

[modbus]

[channels.temperature]
quantity = "temperature"
unit = "Cel"
minimum = -40
maximum = 85
register = {{ address = 1, type = "float32" }}

[channels.humidity]
quantity = "humidity"
unit = "%"
minimum = 0
maximum = 100
register = {{ address = 3 }}
"""


def load(folder: Path, text: str) -> ProfileSet:
    """The one profile that says this."""
    (folder / "thing.toml").write_text(text, encoding="utf-8")
    return ProfileSet.load(folder)
