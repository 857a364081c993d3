"""`heal7-iot profiles …`: list, show, validate, new. Exit codes: 0 well, 1 not there, 2 something is wrong."""

import difflib
import json
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from device_drivers.registry import DRIVER_KINDS
from firmware_profiles.errors import ProfileError
from firmware_profiles.selection import PACKAGED, Loaded, ProfileSet, read_folder
from heal7_iot.profiles.checking import check
from heal7_iot.profiles.skeleton import MODEL, file_name, skeleton
from heal7_iot.profiles.telling import listed, plain, shown

EXIT_ABSENT = 1
EXIT_WRONG = 2
OWN = Path("/etc/heal7-iot/profiles")

app = typer.Typer(
    name="profiles",
    help="What is known of sensors: the profiles that say what their numbers mean.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="For programs: one JSON document.")]
Own = Annotated[
    Path | None,
    typer.Option(
        "--directory",
        help="Your own profiles, as a configuration's profiles.directory names them.",
    ),
]


@app.command("list", epilog="Example: heal7-iot profiles list --directory /etc/heal7-iot/profiles")
def list_profiles(directory: Own = None, as_json: Json = False) -> None:
    """List every profile: models, firmware, driver, channels."""
    profiles = _profiles(directory)
    if as_json:
        _print_json([plain(*one) for one in profiles])
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        typer.echo("\n".join(listed(profiles, width)))


@app.command(epilog="Example: heal7-iot profiles show SCD30 --firmware 3.66")
def show(
    model: Annotated[str, typer.Argument(help="As a configuration names it.")],
    firmware: Annotated[str | None, typer.Option("--firmware", help="Only what this version means.")] = None,
    directory: Own = None,
    as_json: Json = False,
) -> None:
    """Show what readings of a model mean: channels, units, ranges, and the source of each fact."""
    profiles = _profiles(directory)
    of_model = [(file, profile) for file, profile in profiles if model in profile.models]
    if not of_model:
        known = sorted(model for _, profile in profiles for model in profile.models)
        # People write scd30; a configuration must say SCD30.
        by_letters = {name.lower(): name for name in known}
        near = [by_letters[name] for name in difflib.get_close_matches(model.lower(), by_letters, n=1)]
        told = _guess(near, known) if near else "`heal7-iot profiles list` shows those that are known"
        _end(EXIT_ABSENT, f"no profile knows {model!r:.80}; {told}")
    chosen = [(f, profile) for f, profile in of_model if firmware is None or profile.firmware.holds(firmware)]
    if not chosen:
        ranges = " and ".join(str(profile.firmware) for _, profile in of_model)
        _end(EXIT_ABSENT, f"no profile of {model} knows firmware {firmware!r:.80}, only {ranges}: it would be kept raw")
    if as_json:
        _print_json([plain(*one) for one in chosen])
    else:
        typer.echo("\n\n".join("\n".join(shown(*one)) for one in chosen))


@app.command(epilog="Example: heal7-iot profiles validate /etc/heal7-iot/profiles")
def validate(
    paths: Annotated[list[Path], typer.Argument(help="Profiles, or folders of them.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Name every mistake in profiles, also where they contradict each other or the package's. Exit code 2 for any."""
    found = check(paths)
    if as_json:
        _print_json(
            {
                "ok": not found.mistakes,
                "profiles": [{"file": file, "name": profile.name} for file, profile in found.profiles],
                "mistakes": [{"file": m.file, "key": m.key, "remedy": m.remedy} for m in found.mistakes],
            }
        )
    else:
        for mistake in found.mistakes:
            typer.echo(str(mistake), err=True)
        if not found.mistakes:
            for file, profile in found.profiles:
                typer.echo(f"{file}: {profile.name} is right")
    raise typer.Exit(EXIT_WRONG if found.mistakes else 0)


@app.command(epilog="Example: heal7-iot profiles new acme/TH-100 --driver modbus")
def new(
    vendor_and_model: Annotated[str, typer.Argument(metavar="VENDOR/MODEL", help="Such as acme/TH-100.")],
    driver: Annotated[str, typer.Option("--driver", help=f"Its kind: {', '.join(DRIVER_KINDS)}.", show_default=False)],
    directory: Annotated[Path, typer.Option("--directory", help="Where your own profiles are.")] = OWN,
) -> None:
    """Begin a profile: writes one with all keys, to be filled in. Overwrites nothing."""
    named = MODEL.fullmatch(vendor_and_model)
    if named is None:
        _end(
            EXIT_WRONG,
            f"{vendor_and_model!r:.80} is wrong; write VENDOR/MODEL, such as acme/TH-100: of a-z, A-Z, 0-9, _ . and -",
        )
    if driver not in DRIVER_KINDS:
        near = difflib.get_close_matches(driver, DRIVER_KINDS, n=1)
        _end(EXIT_WRONG, f"{driver!r:.80} is no kind of driver; {_guess(near, list(DRIVER_KINDS))}")
    vendor, model = named.groups()
    file = directory / file_name(vendor, model)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as opened:
            opened.write(skeleton(vendor, model, driver))
    except FileExistsError:
        _end(EXIT_WRONG, f"{file} is there already: edit it, or move it away first")
    except OSError as error:
        _end(EXIT_WRONG, f"{file}: {error.strerror or error}; name another --directory, or run this as its owner")
    typer.echo(f'wrote {file}: fill in every "", then say: heal7-iot profiles validate {file}')


def _profiles(own: Path | None) -> list[Loaded]:
    """All of them with their files. Ends the command where one is wrong."""
    loaded, mistakes = read_folder(PACKAGED)
    if own is not None:
        more, wrong = read_folder(own, f"{own}/")
        loaded, mistakes = [*loaded, *more], [*mistakes, *wrong]
    try:
        for mistake in mistakes:
            raise mistake
        ProfileSet(loaded)
    except ProfileError as error:
        _end(EXIT_WRONG, str(error))
    return loaded


def _guess(near: list[str], known: list[str]) -> str:
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def _end(code: int, said: str) -> NoReturn:
    typer.echo(said, err=True)
    raise typer.Exit(code)


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(content, indent=1, ensure_ascii=False))
