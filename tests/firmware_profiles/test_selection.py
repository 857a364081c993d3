"""Choosing a profile by model and firmware, and refusing a set of profiles that contradicts itself."""

from pathlib import Path

import pytest

from firmware_profiles.errors import ProfileError
from firmware_profiles.selection import ProfileSet
from tests.firmware_profiles.written import SOURCE

CHANNEL = """
[channels.pm1]
quantity = "pm1"
unit = "ug/m3"
minimum = 0
maximum = 500
"""


def _write(directory: Path, file: str, name: str, firmware: str = "", models: str = '["A"]') -> None:
    stated = f'firmware = "{firmware}"' if firmware else ""
    (directory / file).write_text(
        f'name = "{name}"\nmodels = {models}\nmanufacturer = "M"\ndriver = "d"\n{stated}\n{SOURCE}\n{CHANNEL}',
        encoding="utf-8",
    )


def _names(profiles: ProfileSet, model: str, *versions: str) -> list[str | None]:
    chosen = [profiles.select(model, version) for version in versions]
    return [None if profile is None else profile.name for profile in chosen]


def test_what_the_package_brings() -> None:
    profiles = ProfileSet.load()
    radars = {"LD2410", "LD2410B", "LD2410C", "LD2450"}
    of_radios = {model for profile in profiles if profile.driver == "ble" for model in profile.models}
    assert {"BTHome", "LYWSD03MMC", "ATC", "H5075", "RuuviTag", "HT.w", "TP357", "IBS-TH", "Qingping CGG1"} <= of_radios
    assert profiles.models() - of_radios == {
        "PMS5003",
        "PMS7003",
        "SDS011",
        "SPS30",
        "MH-Z19B",
        "MH-Z19C",
        "XY-MD02",
        "SCD30",
        "Environmental Sensing",
        "climate-node",
        *radars,
    }
    assert _names(profiles, "PMS7003", "99", "100", "151", "200", "") == [
        None,
        "plantower-pms5003/1",
        "plantower-pms5003/1",
        None,
        None,
    ]
    assert _names(profiles, "BTHome", "1", "2", "2.0", "3") == [None, "bthome-v2/1", "bthome-v2/1", None]
    assert _names(profiles, "SDS011", "1", "") == ["nova-sds011/1"] * 2
    assert _names(profiles, "SDS021", "1") == [None]


def test_names_and_units_fit_the_wire_format() -> None:
    for profile in ProfileSet.load():
        for text in (profile.name, *(c.symbol for c in profile.channels.values()), *profile.channels):
            assert len(text.encode()) <= 128


def test_ranges_are_half_open_and_numeric(tmp_path: Path) -> None:
    _write(tmp_path, "1.toml", "a/1", "<1.10")
    _write(tmp_path, "2.toml", "a/2", ">=1.10,<2")
    _write(tmp_path, "3.toml", "a/3", ">=2")
    found = _names(ProfileSet.load(tmp_path), "A", "0", "1.9", "1.10", "1.10.0", "1.10.1", "2.0", "2.0.1", "30")
    assert found == ["a/1", "a/1", "a/2", "a/2", "a/2", "a/3", "a/3", "a/3"]


@pytest.mark.parametrize("firmware", ["", "v2", "2-beta", "2.", "٢", "1" * 5000, "1\n"])
def test_an_unknown_firmware_matches_only_a_profile_without_a_range(tmp_path: Path, firmware: str) -> None:
    _write(tmp_path, "1.toml", "a/1", ">=0", models='["Ranged"]')
    _write(tmp_path, "2.toml", "b/1", models='["Any"]')
    profiles = ProfileSet.load(tmp_path)
    assert profiles.select("Ranged", firmware) is None
    assert _names(profiles, "Any", firmware) == ["b/1"]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("", "", "every firmware (none is stated) for B overlaps every firmware (none is stated) of 1.toml"),
        ("", ">=7", '">=7" for B overlaps every firmware (none is stated) of 1.toml'),
        ("<2.1", ">=2", '">=2" for B overlaps "<2.1" of 1.toml'),
        (">=1,<5", "~=2.0", '"~=2.0" for B overlaps ">=1,<5" of 1.toml'),
        ("<=2", "==2.0", '"==2.0" for B overlaps "<=2" of 1.toml'),
    ],
)
def test_overlapping_ranges_are_refused(tmp_path: Path, first: str, second: str, said: str) -> None:
    _write(tmp_path, "1.toml", "a/1", first, models='["A", "B"]')
    remedy = 'narrow one of them, such as ">=1,<2" beside ">=2", so that each version is in one'
    _write(tmp_path, "2.toml", "b/2", second, models='["B"]')
    with pytest.raises(ProfileError) as refusal:
        ProfileSet.load(tmp_path)
    assert str(refusal.value) == f"2.toml: firmware: {said}; {remedy}"


def test_a_higher_revision_takes_the_place_of_a_lower_one(tmp_path: Path) -> None:
    """So that an installation's own file corrects one of the package's, and readings of either are still understood."""
    _write(tmp_path, "1.toml", "a/9", ">=1", models='["A", "B"]')
    _write(tmp_path, "2.toml", "a/10", models='["A", "B", "C"]')
    profiles = ProfileSet.load(tmp_path)
    assert [profile.name for profile in profiles] == ["a/10"]
    assert [profile.name for profile in profiles.superseded] == ["a/9"]
    assert _names(profiles, "A", "2") == ["a/10"]
    found = [profiles.named(name) for name in ("a/9", "a/10", "a/11")]
    assert [profile and profile.name for profile in found] == ["a/9", "a/10", None]
    _write(tmp_path, "2.toml", "a/10", models='["A"]')
    with pytest.raises(ProfileError) as refusal:
        ProfileSet.load(tmp_path)
    assert str(refusal.value) == "2.toml: models: leaves out B of a/9, whose whole place it takes; add it"


def test_revisions_for_different_firmware_count_both(tmp_path: Path) -> None:
    _write(tmp_path, "1.toml", "a/1", "<2", models='["A"]')
    _write(tmp_path, "2.toml", "a/2", ">=2", models='["A"]')
    profiles = ProfileSet.load(tmp_path)
    assert profiles.superseded == ()
    assert [_names(profiles, "A", firmware) for firmware in ("1", "2")] == [["a/1"], ["a/2"]]


def test_the_same_range_of_other_models_is_no_contradiction(tmp_path: Path) -> None:
    _write(tmp_path, "1.toml", "a/1", models='["A"]')
    _write(tmp_path, "2.toml", "b/1", models='["B"]')
    assert len(list(ProfileSet.load(tmp_path))) == 2


def test_a_name_is_given_once(tmp_path: Path) -> None:
    _write(tmp_path, "1.toml", "a/1", models='["A"]')
    _write(tmp_path, "2.toml", "a/1", models='["B"]')
    with pytest.raises(ProfileError, match=r'2\.toml: name: "a/1" is taken by 1\.toml; raise its revision'):
        ProfileSet.load(tmp_path)
