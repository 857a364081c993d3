"""What a profile file may say, and what an editor is told of it."""

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from firmware_profiles.errors import ProfileError
from firmware_profiles.schema import PUBLISHED, schema_text
from firmware_profiles.selection import PACKAGED
from tests.firmware_profiles.written import GOOD, MODBUS, load

REGENERATE = "HEAL7_WRITE_SCHEMA"
PROFILES = sorted(PACKAGED.rglob("*.toml"))


def test_a_good_profile(tmp_path: Path) -> None:
    (profile,) = load(tmp_path, GOOD)
    assert (profile.name, profile.models, profile.warm_up_s) == ("thing/1", ("Thing",), 1.5)
    assert profile.firmware.holds("1.9")
    assert profile.sampling.min_interval_s == 2
    channel = profile.channels["temperature"]
    assert channel.name == "temperature"
    assert (channel.unit, channel.symbol) == ("Cel", "°C")
    assert (channel.accuracy, channel.resolution) == (0.3, 0.1)
    assert profile.sources["made_up"].title == "made up"
    assert channel.value(650) == pytest.approx(25.0)
    with pytest.raises(ValidationError):
        profile.warm_up_s = 0.0


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ("warm_up_s", "warm_up", "warm_up", "unknown key; did you mean warm_up_s?"),
        ("warm_up_s", "colour", "colour", "unknown key; known here: name, models"),
        ("scale", "scael", "channels.temperature.scael", "unknown key; did you mean scale?"),
        ("quantity", "quanity", "channels.temperature.quanity", "unknown key; did you mean quantity?"),
        ("min_interval_s", "min_interval", "sampling.min_interval", "did you mean min_interval_s?"),
        ("title", "titel", "sources.made_up.titel", "did you mean title?"),
        ('name = "thing/1"', "", "name", 'is missing; unique, with a revision, such as name = "plantower-pms5003/1"'),
        ('"thing/1"', '"Thing"', "name", '"Thing" is wrong; write a name of a-z, 0-9 and -, and a revision, such as'),
        ('["Thing"]', "[]", "models", "[] is wrong; write at least one"),
        ('["Thing"]', '"Thing"', "models", '"Thing" is wrong; write an array in square brackets'),
        ('["Thing"]', '["Thing", "Thing"]', "models", "names one model twice"),
        ('["Thing"]', '["Thing", 5]', "models[1]", '5 is wrong; write text in quotes, such as "text"'),
        ('">=1,<2"', "1", "firmware", 'write a range as text, such as ">=1.4,<2"'),
        ('">=1,<2"', '{min = "1"}', "firmware", 'write a range as text, such as ">=1.4,<2"'),
        ('">=1,<2"', '"1.4"', "firmware", 'write ">=1.4" for it and all after it, "==1.4" for it alone'),
        ('">=1,<2"', '"one"', "firmware", "with >=, >, <=, <, ==, ~= and dotted numbers"),
        ('">=1,<2"', '"!=1.4"', "firmware", "with >=, >, <=, <, ==, ~= and dotted numbers"),
        ('">=1,<2"', '">=2,<1"', "firmware", 'no version is in ">=2,<1": the lower bound must be below'),
        ('">=1,<2"', '"~=2"', "firmware", 'write "~=2.0" or ">=2,<3"'),
        ("1.5", "-1", "warm_up_s", "-1 is wrong; must be at least 0"),
        ("1.5", '"long"', "warm_up_s", '"long" is wrong; write a number'),
        ("min_interval_s = 2", "min_interval_s = 6", "sampling.interval_s", "is below min_interval_s: write 6 or more"),
        ('["temperature"]', '["temprature"]', "sampling.on_change[0]", '"temprature" is no channel: write one of temp'),
        ("scale = 0.1", "scale = 0", "channels.temperature.scale", "may not be 0"),
        ("scale = 0.1", "scale = nan", "channels.temperature.scale", "write a finite number"),
        ("scale = 0.1", f"scale = 1{'0' * 400}", "channels.temperature.scale", "is wrong; write a number"),
        ("scale = 0.1", f"scale = 0x1{'0' * 4000}", "", "a number too long"),
        ("maximum = 85", "maximum = -40", "channels.temperature.maximum", "-40 is not above minimum, -40: exchange"),
        ('"Cel"', '"°C"', "channels.temperature.unit", '"°C" is what people read: write the UCUM code "Cel"'),
        ('"Cel"', '"Celcius"', "channels.temperature.unit", '"Celcius" is no UCUM code that is known here'),
        (
            '"Cel"',
            '"hPa"',
            "channels.temperature.unit",
            'temperature cannot be stated in "hPa": write "Cel", or another',
        ),
        ('"Cel"', '"C"', "channels.temperature.unit", 'temperature cannot be stated in "C"'),
        ("0.3", "true", "channels.temperature.accuracy", "true is wrong; write a number"),
        ("resolution = 0.1", "resolution = 0", "channels.temperature.resolution", "must be more than 0"),
        ('source = "made_up"', 'source = "x"', "channels.temperature.source", '"x" is no source: write one of made_up'),
        (
            'document = "this test"',
            'note = "?"',
            "sources.made_up.url",
            "is missing; say where it is, or write document",
        ),
        ('document = "this test"', 'url = "manual.pdf"', "sources.made_up.url", 'an address such as "https://'),
        ('document = "this test"', 'document = ""', "sources.made_up.document", '"" is wrong; write some text'),
        ("sources.made_up", "# ", "sources", "is missing; write a table such as [sources.manual]"),
        ("quantity =", 'name = "temp"\nquantity =', "channels.temperature.name", "leave it out: the table's own name"),
        ("[channels.temperature]", '[channels."Temp °"]', "channels.Temp °", "write 1 to 128 of a-z, 0-9 and _"),
        ("[channels.temperature]", "[channels]", "channels.quantity", '"temperature" is wrong; write a table of keys'),
        ("[channels.temperature]", "[channel.temperature]", "channel", "unknown key; did you mean channels?"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, old: str, new: str, key: str, says: str) -> None:
    assert old in GOOD
    with pytest.raises(ProfileError) as refusal:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert (refusal.value.file, refusal.value.key) == ("thing.toml", key)
    assert says in refusal.value.remedy
    assert str(refusal.value).startswith(f"thing.toml: {key}: " if key else "thing.toml: ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ("address = 3", "address = 1", "channels.humidity.register", "holding 1 is temperature's: correct one address"),
        ("address = 3", "address = 70000", "channels.humidity.register.address", "must be at most 65535"),
        ("address = 3", "adress = 3", "channels.humidity.register.adress", "did you mean address?"),
        ('"float32"', '"float128"', "channels.temperature.register.type", "must be 'int16', 'uint16'"),
        ("register = { address = 3 }", "", "channels.humidity.register", "is missing; say where its number is"),
        ("[modbus]", "", "modbus", "is missing, and a channel has a register; write a table [modbus]"),
        ("[modbus]", "[modbus]\nbegin = [{ adress = 1 }]", "modbus.begin[0].adress", "did you mean address?"),
    ],
)
def test_a_fault_of_registers_is_named(tmp_path: Path, old: str, new: str, key: str, says: str) -> None:
    test_good = MODBUS
    assert old in test_good
    load(tmp_path, test_good)
    with pytest.raises(ProfileError) as refusal:
        load(tmp_path, test_good.replace(old, new, 1))
    assert refusal.value.key == key
    assert says in refusal.value.remedy


def test_one_register_may_be_in_both_tables(tmp_path: Path) -> None:
    assert list(load(tmp_path, MODBUS.replace("address = 3", 'address = 1, table = "input"')))


def test_the_schema_that_is_published_is_the_models() -> None:
    if os.environ.get(REGENERATE) == "1":
        PUBLISHED.write_text(schema_text(), encoding="utf-8")
    assert PUBLISHED.read_text(encoding="utf-8") == schema_text(), (
        f"profiles may say something else than {PUBLISHED.name}. If that is meant, write it anew with"
        f" {REGENERATE}=1 python -m pytest {Path(__file__).name} and read the difference"
    )


def validator() -> Any:
    schema = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", PROFILES, ids=lambda p: p.relative_to(PACKAGED).as_posix())
def test_every_profile_fits_the_schema_and_names_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert validator().is_valid(tomllib.loads(text))
    # Even Better TOML and Taplo read it.
    directive = text.splitlines()[0].split()
    assert directive[0] == "#:schema"
    assert (path.parent / directive[1]).resolve() == PUBLISHED


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("warm_up_s", "warm_up"),
        ('name = "thing/1"', ""),
        ('["Thing"]', "[]"),
        ('">=1,<2"', '"1.4"'),
        ('">=1,<2"', '{min = "1"}'),
        ("1.5", "-1"),
        ("0.3", "true"),
        ("resolution = 0.1", "resolution = 0"),
        ("quantity =", 'name = "temp"\nquantity ='),
        ("[channels.temperature]", '[channels."Temp °"]'),
        ("sources.made_up", "# "),
    ],
)
def test_the_schema_refuses_what_a_load_would(old: str, new: str) -> None:
    assert old in GOOD
    assert validator().is_valid(tomllib.loads(GOOD))
    assert not validator().is_valid(tomllib.loads(GOOD.replace(old, new, 1)))
