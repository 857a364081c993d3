"""`heal7-iot profiles`: what it says, and its exit codes."""

import re
import tomllib
from pathlib import Path

import pytest

from device_drivers.registry import DRIVER_KINDS
from firmware_profiles.schema import PUBLISHED
from firmware_profiles.selection import PACKAGED, ProfileSet
from tests.firmware_profiles.written import GOOD, MODBUS
from tests.ingest_server.command_line import Said
from tests.ingest_server.command_line import run as run_command

SDS011 = GOOD.replace('"thing"', '"sds011"').replace("temperature", "pm2_5").replace('"Cel"', '"ug/m3"')


class Profiles:
    """The command, and a folder for it."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self._capsys = capsys
        self.folder = folder

    def run(self, *arguments: str | Path) -> Said:
        said = run_command(self._capsys, "profiles", *map(str, arguments))
        assert "Traceback" not in said.out + said.err
        return said

    def write(self, text: str, name: str = "thing.toml") -> Path:
        file = self.folder / name
        file.write_text(text)
        return file


@pytest.fixture
def profiles(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Profiles:
    return Profiles(capsys, tmp_path)


@pytest.mark.parametrize("command", ["list", "show", "validate", "new"])
def test_each_command_shows_an_example(profiles: Profiles, command: str) -> None:
    said = profiles.run(command, "--help")
    assert said.code == 0
    assert f"Example: heal7-iot profiles {command}" in " ".join(said.out.split())


def test_list_tells_all_profiles_and_ones_own(profiles: Profiles) -> None:
    lines = profiles.run("list").out.splitlines()
    assert len(lines) == 1 + len(list(ProfileSet.load()))
    assert lines[0].split() == ["MODELS", "MANUFACTURER", "FIRMWARE", "DRIVER", "PROFILE", "CHANNELS"]
    (line,) = [line for line in lines if "PMS7003" in line]
    assert re.split(r" {2,}", line)[:5] == [
        "PMS5003, PMS7003",
        "Plantower",
        ">=100,<200",
        "pms5003",
        "plantower-pms5003/1",
    ]
    assert line.index("plantower-pms5003/1") == lines[0].index("PROFILE")
    profiles.write(MODBUS)
    own = profiles.run("list", "--directory", profiles.folder)
    assert len(own.out.splitlines()) == len(lines) + 1
    found = {one["name"]: one for one in profiles.run("list", "--directory", profiles.folder, "--json").json}
    assert found["meter/1"]["file"] == f"{profiles.folder}/thing.toml"
    assert found["meter/1"]["channels"]["temperature"]["symbol"] == "°C"
    assert found["meter/1"]["channels"]["humidity"]["register"]["address"] == 3
    assert found["plantower-pms5003/1"]["firmware"] == ">=100,<200"


def test_show_tells_what_readings_mean_and_who_says_so(profiles: Profiles) -> None:
    profiles.write(SDS011)
    said = profiles.run("show", "Thing", "--directory", profiles.folder)
    assert said.code == 0
    assert said.out.splitlines() == [
        f"profile       thing/1 ({profiles.folder}/thing.toml)",
        "models        Thing",
        "manufacturer  Somebody",
        "driver        sds011",
        "firmware      >=1,<2",
        "warm-up       1.5 s",
        "asked         at most every 2 s",
        "kept          one in 5 s, and at once where pm2_5 changes",
        "",
        "CHANNEL  QUANTITY  UNIT   RANGE      RESOLUTION  SOURCE   ACCURACY",
        "pm2_5    pm2_5     µg/m³  -40 to 85  0.1         made_up  ±0.3 µg/m³",
        "",
        "source made_up: made up, this test",
    ]


def test_show_of_one_firmware(profiles: Profiles) -> None:
    profiles.write(GOOD)
    profiles.write(GOOD.replace("thing/1", "thing/2").replace(">=1,<2", ">=2"), "later.toml")
    own = ("--directory", profiles.folder)
    assert profiles.run("show", "Thing", *own).out.count("profile  ") == 2
    (only,) = profiles.run("show", "Thing", "--firmware", "2.1", *own, "--json").json
    assert only["name"] == "thing/2"
    none = profiles.run("show", "Thing", "--firmware", "0.9", *own)
    assert (none.code, none.out) == (1, "")
    assert none.err == "no profile of Thing knows firmware '0.9', only >=2 and >=1,<2: it would be kept raw\n"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("scd30", "did you mean SCD30?"),
        ("MHZ19B", "did you mean MH-Z19B?"),
        ("x", "`heal7-iot profiles list` shows those"),
    ],
)
def test_an_unknown_model_is_told_a_known_one(profiles: Profiles, model: str, said: str) -> None:
    told = profiles.run("show", model)
    assert told.code == 1
    assert told.err.startswith(f"no profile knows '{model}'; {said}")


def test_list_ends_where_a_profile_is_wrong(profiles: Profiles) -> None:
    profiles.write(GOOD.replace("scale", "scael"))
    said = profiles.run("list", "--directory", profiles.folder)
    assert (said.code, said.out) == (2, "")
    assert said.err == (f"{profiles.folder}/thing.toml: channels.temperature.scael: unknown key; did you mean scale?\n")


def test_validate_names_every_mistake_of_every_file(profiles: Profiles) -> None:
    wrong = profiles.write(GOOD.replace("scale", "scael").replace('"Cel"', '"hPa"').replace("models", "modles"))
    right = profiles.write(SDS011, "right.toml")
    said = profiles.run("validate", profiles.folder)
    assert (said.code, said.out) == (2, "")
    lines = said.err.splitlines()
    assert all(line.startswith(f"{wrong}: ") for line in lines)
    assert sorted(line.removeprefix(f"{wrong}: ").partition(": ")[0] for line in lines) == [
        "channels.temperature.scael",
        "channels.temperature.unit",
        "modles",
    ]
    found = profiles.run("validate", wrong, right, "--json").json
    assert (found["ok"], len(found["mistakes"])) == (False, 3)
    assert found["profiles"] == [{"file": str(right), "name": "thing/1"}]
    assert {"file": str(wrong), "key": "modles", "remedy": "unknown key; did you mean models?"} in found["mistakes"]
    wrong.unlink()
    said = profiles.run("validate", right)
    assert (said.code, said.out, said.err) == (0, f"{right}: thing/1 is right\n", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD, 'driver: "thing" is no kind of driver; write one of pms5003, sds011'),
        (GOOD.replace('"thing"', '"modbuss"'), 'driver: "modbuss" is no kind of driver; did you mean modbus?'),
        (GOOD.replace('"thing"', '"modbus"'), "modbus: is missing; the driver modbus needs a table [modbus]"),
        (MODBUS.replace('"modbus"', '"ble"'), "modbus: the driver ble reads no such table; leave it out, or correct"),
        (
            SDS011.replace("pm2_5]", "pm25]").replace('"pm2_5"]', '"pm25"]'),
            "channels.pm25: no frame of sds011 has it; wr",
        ),
        (
            SDS011.replace('"Thing"', '"SDS011"'),
            'firmware: ">=1,<2" for SDS011 overlaps every firmware (none is stated)',
        ),
        (SDS011.replace('"thing/1"', '"nova-sds011/1"'), 'name: "nova-sds011/1" is taken by '),
    ],
)
def test_validate_knows_drivers_and_the_packages_profiles(profiles: Profiles, text: str, said: str) -> None:
    file = profiles.write(text)
    told = profiles.run("validate", file)
    assert told.code == 2
    (line,) = told.err.splitlines()
    assert line.startswith(f"{file}: {said}")


def test_a_profile_that_is_named_twice_is_one(profiles: Profiles) -> None:
    file = profiles.write(SDS011)
    assert profiles.run("validate", profiles.folder, file, profiles.folder / "." / "thing.toml").code == 0


def test_validate_of_nothing_is_a_mistake(profiles: Profiles) -> None:
    told = profiles.run("validate", profiles.folder)
    assert (told.code, told.err) == (2, f"{profiles.folder}: has no *.toml; name a profile, or a folder of some\n")
    told = profiles.run("validate", profiles.folder / "none.toml")
    assert told.code == 2
    assert told.err.endswith("none.toml: there is no such file; correct its name or where its link leads\n")


def test_the_packages_own_profiles_are_right(profiles: Profiles) -> None:
    said = profiles.run("validate", PACKAGED)
    assert (said.code, said.err) == (0, "")
    assert len(said.out.splitlines()) == len(list(ProfileSet.load()))


# What a manual would say, by key.
_FROM_THE_MANUAL = {
    "title": '"a manual"',
    "document": '"a.pdf"',
    "quantity": '"something"',
    "unit": '"1"',
    "minimum": "0",
    "maximum": "1",
    "address": "7",
    "format": '"json"',
    "field": '"a"',
    "uuid": '"2A6E"',
}


@pytest.mark.parametrize("driver", sorted(DRIVER_KINDS))
def test_a_new_profile_is_right_once_its_marked_places_are_filled_in(profiles: Profiles, driver: str) -> None:
    said = profiles.run("new", "Acme Co/TH-100 v.2", "--driver", driver, "--directory", profiles.folder / "own")
    assert said.code == 2, "a vendor has no blank"
    said = profiles.run("new", "Acme/TH-100 v.2", "--driver", driver, "--directory", profiles.folder / "own")
    file = profiles.folder / "own/acme/th-100-v-2.toml"
    assert (said.code, said.out) == (
        0,
        f'wrote {file}: fill in every "", then say: heal7-iot profiles validate {file}\n',
    )
    text = file.read_text()
    assert text.startswith(f"#:schema {PUBLISHED}\n")
    told = profiles.run("validate", file)
    assert told.code == 2
    places = re.findall(r'^[^#\n]*?\b(\w+) = ""', text, re.MULTILINE)
    assert sorted({line.split(": ")[1].rpartition(".")[2] for line in told.err.splitlines()}) == sorted(set(places))
    filled = re.sub(r'^([^#\n]*?\b(\w+) = )""', lambda m: m[1] + _FROM_THE_MANUAL[m[2]], text, flags=re.MULTILINE)
    file.write_text(filled)
    told = profiles.run("validate", file)
    assert (told.code, told.err) == (0, "")
    assert tomllib.loads(filled)["models"] == ["TH-100 v.2"]


def test_new_overwrites_nothing(profiles: Profiles) -> None:
    new = ("new", "acme/TH-100", "--driver", "modbus", "--directory", profiles.folder)
    profiles.run(*new)
    file = profiles.folder / "acme/th-100.toml"
    file.write_text("mine")
    said = profiles.run(*new)
    assert (said.code, said.err) == (2, f"{file} is there already: edit it, or move it away first\n")
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["acme", "--driver", "modbus"], "'acme' is wrong; write VENDOR/MODEL, such as acme/TH-100"),
        (["../acme/x", "--driver", "modbus"], "'../acme/x' is wrong; write VENDOR/MODEL"),
        (["acme/..", "--driver", "modbus"], "'acme/..' is wrong; write VENDOR/MODEL"),
        (['a/b"', "--driver", "modbus"], "'a/b\"' is wrong; write VENDOR/MODEL"),
        (["acme/x", "--driver", "modbux"], "'modbux' is no kind of driver; did you mean modbus?"),
        (["acme/x", "--driver", "modbus", "--directory", "/dev/null"], "/dev/null/acme/x.toml: Not a directory; name"),
    ],
)
def test_new_says_what_would_be_right(profiles: Profiles, arguments: list[str], said: str) -> None:
    told = profiles.run("new", *arguments)
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith(said)


@pytest.mark.parametrize(
    ("model", "channel", "place"),
    [
        ("SCD30", "carbon_dioxide", "holding 40 float32"),
        ("Environmental Sensing", "temperature", "2A6E int16"),
        ("climate-node", "temperature", "temp"),
    ],
)
def test_show_says_where_a_number_is_found(profiles: Profiles, model: str, channel: str, place: str) -> None:
    """What a technician compares with the manual first."""
    rows = [re.split(r" {2,}", line) for line in profiles.run("show", model).out.splitlines()]
    (heads,) = [row for row in rows if row[0] == "CHANNEL"]
    (found,) = [row for row in rows if row[0] == channel]
    assert (heads[1], found[1]) == ("FROM", place)
