"""Where backups lie: one folder for each, which has its name only once it is complete and on disk."""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ingest_server.storage.backup.errors import NotABackup, NotWritten
from ingest_server.storage.backup.manifest import MANIFEST

PARTIAL = ".partial"
_NAME = re.compile(r"iot-service-\d{8}T\d{6}Z-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """Folders of backups that were interrupted. removed: now. in_use: another backup writes there at this moment."""

    removed: tuple[str, ...]
    in_use: tuple[str, ...]


def name_of(made_at: str, ledger_id: str) -> str:
    """made_at: as the manifest has it, ISO 8601 with Z."""
    digits = re.sub(r"[-:]", "", made_at.split(".")[0])
    return f"iot-service-{digits}Z-{ledger_id[:8]}"


def newest(directory: Path) -> Path:
    """The newest complete backup in a folder. Raises NotABackup where there is none."""
    try:
        found = sorted(p.name for p in directory.iterdir() if _NAME.fullmatch(p.name) and (p / MANIFEST).exists())
    except OSError as error:
        raise NotABackup(f"{directory}: {error.strerror}") from error
    if not found:
        raise NotABackup(f"{directory}: no backup in it")
    return directory / found[-1]


def clear(directory: Path) -> LeftBehind:
    """Removes what interrupted backups have left there. Raises NotWritten."""
    removed: list[str] = []
    in_use: list[str] = []
    try:
        for path in sorted(directory.iterdir()):
            if path.name.endswith(PARTIAL) and _NAME.fullmatch(path.name.removesuffix(PARTIAL)):
                with _held(path) as alone:
                    if alone:
                        shutil.rmtree(path)
                (removed if alone else in_use).append(path.name)
    except OSError as error:
        raise NotWritten(f"{error.filename or directory}: {error.strerror}") from error
    return LeftBehind(tuple(removed), tuple(in_use))


@contextmanager
def begun(directory: Path, name: str) -> Iterator[Path]:
    """A folder to fill; it gets its name at the end, and is removed on any fault. Raises NotWritten."""
    partial = directory / (name + PARTIAL)
    try:
        if (directory / name).exists():
            raise NotWritten(f"{directory / name}: exists already: try again in a second")
        partial.mkdir(mode=0o700)
    except FileExistsError as error:
        raise NotWritten(f"{partial}: another backup has just begun: try again in a second") from error
    except OSError as error:
        raise NotWritten(f"{partial}: {error.strerror}") from error
    try:
        with _held(partial) as alone:
            if not alone:
                # Another one clears up at this moment, and would remove what is written here.
                raise NotWritten(f"{partial}: another backup clears up: try again in a second")
            yield partial
            try:
                sync(partial)
                partial.rename(directory / name)
                sync(directory)
            except OSError as error:
                raise NotWritten(f"{partial}: {error.strerror}") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def sync(folder: Path) -> None:
    """Names in it are on disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Whether nobody else has it; kept until the end of the block, or of the process, however that ends."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
