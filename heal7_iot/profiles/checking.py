"""What a profile's own file cannot know: the drivers that there are, and the profiles beside it."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from device_drivers.registry import DRIVER_KINDS
from device_drivers.serial_line.codecs import FRAME_CODECS
from firmware_profiles.errors import ProfileError
from firmware_profiles.file import read_profile
from firmware_profiles.profile import FirmwareProfile
from firmware_profiles.selection import PACKAGED, Loaded, contradictions, read_folder


@dataclass(frozen=True, slots=True)
class Checked:
    """profiles: those that are right by themselves, each after its file. mistakes: every one, in the order of files."""

    profiles: tuple[Loaded, ...]
    mistakes: tuple[ProfileError, ...]


def check(paths: Sequence[Path]) -> Checked:
    """These files, and every profile in these folders, together with the profiles that come with the package."""
    # By where they are: a folder and a file in it would make a profile contradict itself.
    given: dict[Path, Loaded] = {}
    mistakes: list[ProfileError] = []
    for path in paths:
        found, wrong = _read(path)
        given.update({Path(name).resolve(): (name, profile) for name, profile in found})
        mistakes += wrong
    for name, profile in given.values():
        mistakes += [ProfileError(name, key, remedy) for key, remedy in _of_drivers(profile)]
    packaged, _ = read_folder(PACKAGED, f"{PACKAGED}/")
    beside = [one for one in packaged if Path(one[0]).resolve() not in given]
    mistakes += contradictions([*beside, *given.values()])
    return Checked(tuple(given.values()), tuple(mistakes))


def _read(path: Path) -> tuple[list[Loaded], list[ProfileError]]:
    if path.is_dir():
        loaded, mistakes = read_folder(path, f"{path}/")
        if not loaded and not mistakes:
            mistakes = [ProfileError(str(path), "", "has no *.toml; name a profile, or a folder of some")]
        return loaded, mistakes
    found = read_profile(path, str(path))
    return ([(str(path), found)], []) if isinstance(found, FirmwareProfile) else ([], found)


def _of_drivers(profile: FirmwareProfile) -> Iterator[tuple[str, str]]:
    """(key, remedy): what no driver could do anything with."""
    kind = profile.driver
    if kind not in DRIVER_KINDS:
        near = difflib.get_close_matches(kind, DRIVER_KINDS, n=1)
        right = f"did you mean {near[0]}?" if near else f"write one of {', '.join(DRIVER_KINDS)}"
        yield "driver", f'"{kind}" is no kind of driver; {right}'
        return
    # Of a driver that asks for what the profile names, the table is called like it.
    for table in DRIVER_KINDS.keys() & type(profile).model_fields.keys():
        if table == kind and getattr(profile, table) is None:
            yield table, f"is missing; the driver {kind} needs a table [{table}]"
        elif table != kind and getattr(profile, table) is not None:
            yield table, f"the driver {kind} reads no such table; leave it out, or correct driver"
    codec = FRAME_CODECS.get(kind)
    for channel in profile.channels if codec is not None else ():
        if codec is not None and channel not in codec.channels:
            yield f"channels.{channel}", f"no frame of {kind} has it; write one of {', '.join(codec.channels)}"
