"""Which profile gives a device's numbers their meaning, by its model and firmware version."""

import tomllib
from collections.abc import Iterable, Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import combinations
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from firmware_profiles.errors import ProfileError
from firmware_profiles.profile import FirmwareProfile


class ProfileSet:
    """All profiles of this installation; no two of them claim the same model and firmware."""

    def __init__(self, profiles: Iterable[tuple[str, FirmwareProfile]]) -> None:
        """profiles: each with the file that it came from. Raises ProfileError where two contradict each other."""
        loaded = tuple(profiles)
        for (first_file, first), (second_file, second) in combinations(loaded, 2):
            _refuse_contradiction(first_file, first, second_file, second)
        self._profiles = tuple(profile for _, profile in loaded)

    @classmethod
    def load(cls, directory: Path | None = None) -> Self:
        """Reads every `*.toml` of the directory and the folders in it, by default those that come with the package.

        Raises ProfileError for a file that is not TOML or not a profile, and where two contradict each other.
        """
        folder: Traversable = files("firmware_profiles") / "profiles" if directory is None else directory
        return cls((name, _parse(name, entry)) for name, entry in sorted(_files(folder), key=lambda found: found[0]))

    def __iter__(self) -> Iterator[FirmwareProfile]:
        return iter(self._profiles)

    def models(self) -> frozenset[str]:
        """All models that some profile knows."""
        return frozenset(model for profile in self._profiles for model in profile.models)

    def select(self, model: str, firmware: str) -> FirmwareProfile | None:
        """The profile for a device of this model and firmware; None if no profile knows it.

        Dotted numbers compare as numbers. An unknown firmware, which is an empty string or no dotted number, matches
        only a profile that states no range of firmware: whoever wrote a range knew of firmware that means otherwise.
        """
        for profile in self._profiles:
            if model in profile.models and profile.firmware.holds(firmware):
                return profile
        return None


def _files(folder: Traversable, within: str = "") -> Iterator[tuple[str, Traversable]]:
    """Each with its name below the first folder, such as `plantower/pms5003.toml`."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _files(entry, f"{within}{entry.name}/")
        elif entry.name.endswith(".toml"):
            yield f"{within}{entry.name}", entry


def _parse(name: str, entry: Traversable) -> FirmwareProfile:
    try:
        table = tomllib.loads(entry.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(name, "", f"not a TOML file: {error}") from error
    try:
        return FirmwareProfile.model_validate(table)
    except ValidationError as error:
        # One fault at a time: a misspelt key shows as two (unknown, and missing), and the first names the cause.
        details = sorted(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in details[0]["loc"])
        remedy = details[0]["msg"]
        if details[0]["type"] == "extra_forbidden":
            remedy = "unknown key; remove it or correct its spelling"
        raise ProfileError(name, key, remedy) from error


def _refuse_contradiction(first_file: str, first: FirmwareProfile, second_file: str, second: FirmwareProfile) -> None:
    if first.name == second.name:
        raise ProfileError(second_file, "name", f"{second.name!r} is taken by {first_file}; raise its revision")
    shared = set(first.models).intersection(second.models)
    if shared and first.firmware.overlaps(second.firmware):
        raise ProfileError(
            second_file,
            "firmware",
            f"range for {', '.join(sorted(shared))} overlaps that of {first_file}; set min and max so that "
            "each version has one profile",
        )
