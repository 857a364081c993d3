"""What a profile file may say: every fault is named with file, key and what would be right."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from firmware_profiles.errors import ProfileError
from firmware_profiles.selection import ProfileSet

GOOD = """
name = "thing/1"
models = ["Thing"]
manufacturer = "Somebody"
driver = "thing"
warm_up_s = 1.5
firmware = {min = "1", max = "2"}

[channels.temperature]
quantity = "temperature"
unit = "°C"
scale = 0.1
offset = -40
minimum = -40
maximum = 85
accuracy = 0.3
"""


def _load(tmp_path: Path, text: str) -> ProfileSet:
    (tmp_path / "thing.toml").write_text(text, encoding="utf-8")
    return ProfileSet.load(tmp_path)


def test_a_good_profile(tmp_path: Path) -> None:
    (profile,) = _load(tmp_path, GOOD)
    assert (profile.name, profile.models, profile.warm_up_s) == ("thing/1", ("Thing",), 1.5)
    channel = profile.channels["temperature"]
    assert channel.name == "temperature"
    assert channel.accuracy == 0.3
    assert channel.value(650) == pytest.approx(25.0)
    with pytest.raises(ValidationError):
        profile.warm_up_s = 0.0


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ("warm_up_s", "warm_up", "warm_up", "unknown key"),
        ("scale", "scael", "channels.temperature.scael", "unknown key"),
        ("quantity", "quanity", "channels.temperature.quanity", "unknown key"),
        ('name = "thing/1"', "", "name", "Field required"),
        ('"thing/1"', '"Thing"', "name", "pattern"),
        ('["Thing"]', "[]", "models", "at least 1"),
        ('["Thing"]', '["Thing", "Thing"]', "", "twice"),
        ('min = "1"', "min = 1", "firmware.min", "string"),
        ('min = "1"', 'min = "one"', "firmware.min", "dotted number"),
        ('min = "1"', 'min = "2.0"', "firmware", "min must be below max"),
        ('min = "1", max = "2"', 'max = "0"', "firmware", "min must be below max"),
        ("1.5", "-1", "warm_up_s", "greater than or equal to 0"),
        ("scale = 0.1", "scale = 0", "channels.temperature", "scale may not be 0"),
        ("scale = 0.1", "scale = nan", "channels.temperature.scale", "finite"),
        ("maximum = 85", "maximum = -40", "channels.temperature", "minimum must be below maximum"),
        ("quantity =", 'name = "temp"\nquantity =', "", "leave its name out"),
        ("[channels.temperature]", '[channels."Temp °"]', "channels.Temp °", "pattern"),
        ("[channels.temperature]", "[channels]", "channels.quantity", "dictionary"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, old: str, new: str, key: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ProfileError) as refusal:
        _load(tmp_path, GOOD.replace(old, new, 1))
    assert refusal.value.file == "thing.toml"
    assert refusal.value.key.startswith(key)
    assert says in refusal.value.remedy
    assert str(refusal.value).startswith("thing.toml: ")


@pytest.mark.parametrize("text", ["name = ", "\x00", 'name = "a"\nname = "b"'])
def test_what_is_no_toml_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ProfileError, match=r"thing\.toml: not a TOML file"):
        _load(tmp_path, text)


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "thing.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ProfileError, match=r"thing\.toml: not a TOML file"):
        ProfileSet.load(tmp_path)


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("not a profile")
    assert list(_load(tmp_path, GOOD))
