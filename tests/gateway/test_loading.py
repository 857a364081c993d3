"""A gateway's own profiles, and what profiles forbid it."""

from pathlib import Path

import pytest

from gateway.link.config_file import ConfigError
from gateway.loading import load_gateway
from tests.firmware_profiles.written import GOOD

GATEWAY = '[gateway]\nsite = "seoul-1"\nname = "gw-01"\nstate_dir = "/var/lib/heal7-iot"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


def mistakes(file: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_gateway(file)
    return str(caught.value).splitlines()


def own(file: Path, text: str = GOOD) -> Path:
    """A folder with one profile of this installation, named in the file."""
    folder = file.parent / "profiles"
    (folder / "somebody").mkdir(parents=True)
    (folder / "somebody/thing.toml").write_text(text)
    file.write_text(GATEWAY + f'[profiles]\ndirectory = "{folder}"\n')
    return folder


def test_own_profiles_stand_beside_those_of_the_package(file: Path) -> None:
    file.write_text(GATEWAY)
    _, packaged = load_gateway(file)
    own(file)
    _, profiles = load_gateway(file)
    assert profiles.models() == packaged.models() | {"Thing"}
    assert profiles != packaged
    assert profiles == load_gateway(file)[1]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("scale", "scael", "channels.temperature.scael: unknown key; did you mean scale?"),
        ('"thing/1"', '"nova-sds011/1"', 'name: "nova-sds011/1" is taken by nova/sds011.toml; raise its revision'),
        (
            '"Thing"',
            '"SDS011"',
            'firmware: ">=1,<2" for SDS011 overlaps every firmware',
        ),
    ],
)
def test_an_own_profile_that_is_wrong_is_named_by_its_whole_path(file: Path, old: str, new: str, said: str) -> None:
    folder = own(file, GOOD.replace(old, new, 1))
    (line,) = mistakes(file)
    assert line.startswith(f"{folder}/somebody/thing.toml: {said}")


def test_a_directory_that_is_not_there_is_named(file: Path, tmp_path: Path) -> None:
    file.write_text(GATEWAY + f'[profiles]\ndirectory = "{tmp_path}/none"\n')
    assert mistakes(file) == [f"{tmp_path}/none: No such file or directory; name a folder that this user may read"]
    file.write_text(GATEWAY + '[profiles]\ndirectory = "profiles"\n')
    assert "write an absolute path such as /etc/heal7-iot/profiles" in mistakes(file)[0]


POLLED = '[[driver]]\nkind = "{kind}"\ndevice = "a"\nport = "/dev/ttyX"\ninterval_s = {interval}\n'
BUS = '[[driver]]\nkind = "modbus"\nport = "/dev/ttyX"\n[[driver.device]]\nunit = 1\ndevice = "a"\nmodel = "XY-MD02"\n'
UNIT = '[[driver.device]]\nunit = 97\ndevice = "b"\nmodel = "SCD30"\ninterval_s = {interval}\n'


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        (
            POLLED.format(kind="mhz19b", interval=1),
            POLLED.format(kind="mhz19b", interval=0.5),
            "driver[0].interval_s: 0.5 is more often than profile winsen-mhz19b/1 allows; make it at least 1",
        ),
        (
            POLLED.format(kind="sps30", interval=1),
            POLLED.format(kind="sps30", interval=0.9),
            "driver[0].interval_s: 0.9 is more often than profile sensirion-sps30/1 allows; make it at least 1",
        ),
        (
            BUS + UNIT.format(interval=2),
            BUS + UNIT.format(interval=1.5),
            "driver[0].device[1].interval_s: 1.5 is more often than profile sensirion-scd30/2 allows; make it at least",
        ),
    ],
)
def test_no_device_is_asked_more_often_than_its_profile_allows(file: Path, good: str, bad: str, said: str) -> None:
    file.write_text(GATEWAY + good)
    load_gateway(file)
    file.write_text(GATEWAY + bad)
    (line,) = mistakes(file)
    assert line.startswith(f"{file}: {said}")


@pytest.mark.parametrize(("firmware", "refused"), [("", False), ("1.5", True), ("3", False), ("9", False)])
def test_what_only_some_firmware_forbids_is_refused_where_it_is_stated(
    file: Path, firmware: str, refused: bool
) -> None:
    folder = own(file, GOOD.replace('"Thing"', '"MH-Z19X"').replace("min_interval_s = 2", "min_interval_s = 5"))
    later = GOOD.replace("thing/1", "thing/2").replace(">=1,<2", ">=2,<9").replace('"Thing"', '"MH-Z19X"')
    (folder / "later.toml").write_text(later)
    driver = POLLED.format(kind="mhz19b", interval=3) + f'model = "MH-Z19X"\nfirmware = "{firmware}"\n'
    file.write_text(file.read_text() + driver)
    if refused:
        assert mistakes(file)[0].endswith("3 is more often than profile thing/1 allows; make it at least 5")
    else:
        load_gateway(file)
