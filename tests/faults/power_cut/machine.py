"""A machine whose disk is recorded: the spool's real code runs on it, and its power can be cut."""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.faults.power_cut.disk import Files, Log
from tests.faults.power_cut.recorded_connection import RecordedConnection
from tests.faults.power_cut.recorded_vfs import RecordedVFS

_names = count()


class Machine:
    """One folder, in which all files of SQLite are recorded. Made by `running`."""

    def __init__(self, folder: Path, instead: Mapping[str, str]) -> None:
        self.folder = folder
        self.log = Log()
        self.vfs = RecordedVFS(f"recorded-{next(_names)}", folder, self.log)
        self._instead = instead
        self._open: list[RecordedConnection] = []

    @classmethod
    @contextmanager
    def running(
        cls, folder: Path, files: Files | None = None, instead: Mapping[str, str] | None = None
    ) -> Iterator["Machine"]:
        """The machine, its folder holding `files`. Meanwhile `sqlite3.connect` and `os` of this process are its own."""
        folder.mkdir()
        self = cls(folder, instead or {})
        self.cut_to(files or {})
        with pytest.MonkeyPatch.context() as patch:
            self._take_over(patch)
            try:
                yield self
            finally:
                self.kill()
                self.vfs.unregister()

    def kill(self) -> None:
        """The process ends as by kill -9: what it wrote is with the system, and nothing else happens."""
        with self._dead():
            for connection in self._open:
                connection.close()
            self._open.clear()

    def cut_to(self, left: Files) -> None:
        """The power was cut, and these files were left."""
        self.kill()
        with self._dead():
            for path in self.folder.iterdir():
                path.unlink()
            for name, data in left.items():
                (self.folder / name).write_bytes(data)
        self.log.cut(left)

    @contextmanager
    def _dead(self) -> Iterator[None]:
        self.vfs.dead = True
        yield
        self.vfs.dead = False

    def _take_over(self, patch: pytest.MonkeyPatch) -> None:
        connect, rename, unlink, statvfs = sqlite3.connect, os.rename, os.unlink, os.statvfs

        def recorded_connect(path: Any, **named: Any) -> Any:
            if str(path) == ":memory:":
                return connect(path, **named)
            self._open.append(RecordedConnection(str(path), self.vfs.name, self._instead))
            return self._open[-1]

        def recorded_rename(old: Any, new: Any) -> None:
            rename(old, new)
            self.log.renamed(Path(old).name, Path(new).name)

        def recorded_unlink(path: Any) -> None:
            unlink(path)
            if not self.vfs.dead:
                self.log.unlinked(Path(path).name)

        def recorded_fsync(descriptor: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            if path == self.folder.resolve():
                self.log.synced_folder()
            else:
                self.log.synced_name(path.name)

        def recorded_statvfs(path: Any) -> Any:
            if self.vfs.room is None:
                return statvfs(path)
            return SimpleNamespace(f_bavail=max(0, self.vfs.room - self.vfs.used()), f_frsize=1)

        patch.setattr(sqlite3, "connect", recorded_connect)
        patch.setattr(os, "rename", recorded_rename)
        patch.setattr(os, "unlink", recorded_unlink)
        patch.setattr(os, "fsync", recorded_fsync)
        patch.setattr(os, "statvfs", recorded_statvfs)
