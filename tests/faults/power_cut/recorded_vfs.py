"""SQLite's files, as they are, with every write, truncation, deletion and sync written down."""

from pathlib import Path

import apsw

from tests.faults.power_cut.disk import Log

_NAMED_BY_SYNC = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL


class RecordedVFS(apsw.VFS):
    """The system's VFS, recorded.

    dead: the process that has the files open is no more; what it still does, by closing them, does not happen.
    room: bytes that the folder's files may have together; None: no limit.
    """

    def __init__(self, name: str, folder: Path, log: Log) -> None:
        super().__init__(name, "")
        self.name = name
        self.folder = folder
        self.log = log
        self.dead = False
        self.room: int | None = None

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "RecordedFile":  # noqa: N802
        if name is None:
            raise apsw.CantOpenError("a temporary file: all that is temporary was to stay in memory")
        return RecordedFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        if self.dead:
            return
        super().xDelete(filename, syncdir)
        self.log.unlinked(Path(filename).name)
        if syncdir:
            self.log.synced_folder()

    def used(self) -> int:
        """Bytes of all files in the folder."""
        return sum(path.stat().st_size for path in self.folder.iterdir())


class RecordedFile(apsw.VFSFile):
    """One file of SQLite's."""

    def __init__(self, vfs: RecordedVFS, name: str | apsw.URIFilename, flags: list[int]) -> None:
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        new = not path.exists()
        super().__init__("", name, flags)
        self._vfs = vfs
        self._file = vfs.log.opened(path.name, new=new)
        # As the VFS for Unix does: with the first sync of a journal its folder is synced, too.
        self._sync_folder = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & _NAMED_BY_SYNC)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self._vfs.dead:
            return
        written = bytes(data)
        growth = offset + len(written) - self.xFileSize()
        if self._vfs.room is not None and growth > 0 and self._vfs.used() + growth > self._vfs.room:
            raise apsw.exception_for(apsw.SQLITE_FULL)
        super().xWrite(written, offset)
        self._vfs.log.wrote(self._file, offset, written)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        if self._vfs.dead:
            return
        super().xTruncate(newsize)
        self._vfs.log.truncated(self._file, newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self._vfs.dead:
            return
        # Not done in earnest: a real one costs time, and tells nothing.
        self._vfs.log.synced(self._file)
        if self._sync_folder:
            self._vfs.log.synced_folder()
            self._sync_folder = False
