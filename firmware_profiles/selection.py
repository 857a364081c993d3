"""Which profile gives a device's numbers their meaning, by its model and firmware version."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Self

from firmware_profiles.errors import ProfileError
from firmware_profiles.file import read_profile
from firmware_profiles.profile import FirmwareProfile

PACKAGED = Path(__file__).parent / "profiles"
"""The profiles that come with the package."""

Loaded = tuple[str, FirmwareProfile]
"""A profile after the name of its file: of one that comes with the package, its name there."""


class ProfileSet:
    """All profiles of this installation; no two of them claim the same model and firmware.

    Iterated over, it gives those that count. superseded: revisions in whose place a higher one has come, kept because
    readings carry their names.
    """

    def __init__(self, profiles: Iterable[Loaded]) -> None:
        """Raises ProfileError where two contradict each other."""
        loaded = tuple(profiles)
        for mistake in contradictions(loaded):
            raise mistake
        found = [profile for _, profile in loaded]
        self.superseded = tuple(one for one in found if any(_supersedes(other, one) for other in found))
        self._profiles = tuple(one for one in found if one not in self.superseded)

    @classmethod
    def load(cls, directory: Path = PACKAGED) -> Self:
        """Every `*.toml` of the directory and the folders in it, by default those that come with the package.

        Raises ProfileError for a file that is not TOML or not a profile, and where two contradict each other.
        """
        return cls._of(*read_folder(directory))

    @classmethod
    def with_own(cls, directory: Path | None) -> Self:
        """What comes with the package, and beside it what this directory has. Raises ProfileError as `load`."""
        loaded, mistakes = read_folder(PACKAGED)
        if directory is not None:
            own, own_mistakes = read_folder(directory, f"{directory}/")
            loaded, mistakes = [*loaded, *own], [*mistakes, *own_mistakes]
        return cls._of(loaded, mistakes)

    @classmethod
    def _of(cls, loaded: Sequence[Loaded], mistakes: Sequence[ProfileError]) -> Self:
        for mistake in mistakes:
            raise mistake
        return cls(loaded)

    def __iter__(self) -> Iterator[FirmwareProfile]:
        return iter(self._profiles)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ProfileSet):
            return False
        return (self._profiles, self.superseded) == (other._profiles, other.superseded)

    __hash__ = None  # type: ignore[assignment]

    def named(self, name: str) -> FirmwareProfile | None:
        """The profile of this name, also where a higher revision counts; None if it is not installed."""
        return next((profile for profile in (*self._profiles, *self.superseded) if profile.name == name), None)

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


def read_folder(folder: Path, prefix: str = "") -> tuple[list[Loaded], list[ProfileError]]:
    """Every profile in the folder and those in it, in the order of their names, and every mistake in the others.

    prefix: of the names, which are else as within the folder, such as `plantower/pms5003.toml`.
    """
    loaded: list[Loaded] = []
    mistakes: list[ProfileError] = []
    try:
        found = sorted(_files(folder))
    except OSError as error:
        remedy = f"{error.strerror or error}; name a folder that this user may read"
        return [], [ProfileError(str(error.filename or folder), "", remedy)]
    for path in found:
        name = f"{prefix}{path.relative_to(folder).as_posix()}"
        profile = read_profile(path, name)
        if isinstance(profile, FirmwareProfile):
            loaded.append((name, profile))
        else:
            mistakes += profile
    return loaded, mistakes


def _files(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.name.endswith(".toml"):
            yield entry
        # A link to a folder above it would be followed for ever.
        elif entry.is_dir() and not entry.is_symlink():
            yield from _files(entry)


def contradictions(loaded: Sequence[Loaded]) -> Iterator[ProfileError]:
    """Where two of them have one name, or claim one model and firmware. Of two revisions the higher one has it."""
    for (first_file, first), (second_file, second) in combinations(loaded, 2):
        if first.name == second.name:
            yield ProfileError(second_file, "name", f'"{second.name}" is taken by {first_file}; raise its revision')
        elif not (shared := _shared(first, second)):
            continue
        elif _base(first) == _base(second):
            file, higher, lower = second_file, second, first
            if _revision(first) > _revision(second):
                file, higher, lower = first_file, first, second
            if left_out := sorted(set(lower.models).difference(higher.models)):
                remedy = f"leaves out {', '.join(left_out)} of {lower.name}, whose whole place it takes; add it"
                yield ProfileError(file, "models", remedy)
        else:
            yield ProfileError(
                second_file,
                "firmware",
                f"{_range(second)} for {shared} overlaps {_range(first)} of {first_file}; narrow one of them, such as"
                ' ">=1,<2" beside ">=2", so that each version is in one',
            )


def _supersedes(one: FirmwareProfile, other: FirmwareProfile) -> bool:
    """Whether it is a higher revision of the other, and claims what that claims."""
    return _base(one) == _base(other) and _revision(one) > _revision(other) and bool(_shared(one, other))


def _shared(first: FirmwareProfile, second: FirmwareProfile) -> str:
    """The models that both claim with some firmware; empty if there are none."""
    shared = ", ".join(sorted(set(first.models).intersection(second.models)))
    return shared if shared and first.firmware.overlaps(second.firmware) else ""


def _base(profile: FirmwareProfile) -> str:
    return profile.name.rpartition("/")[0]


def _revision(profile: FirmwareProfile) -> int:
    return int(profile.name.rpartition("/")[2])


def _range(profile: FirmwareProfile) -> str:
    return f'"{profile.firmware}"' if profile.firmware.text else "every firmware (none is stated)"
