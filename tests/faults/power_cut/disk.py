"""A disk as a program must expect it: what was synced is there after a power cut; of the rest, any part.

`Log` holds what was done to the files of one folder, in order. `Disk` follows a log and says which files a power
cut would leave at the place that it has reached. The model is harsher than most file systems: a file's name needs a
sync of its folder, whatever became of its content, and what was not synced is kept in any order. It takes from them
only what SQLite takes, too (powersafe overwrite): bytes beside those that are being written stay what they are.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from itertools import count

SECTOR = 512

Files = dict[str, bytes]
"""Contents by name."""


@dataclass(frozen=True, slots=True)
class Write:
    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Link:
    name: str
    file: int


@dataclass(frozen=True, slots=True)
class Unlink:
    name: str


@dataclass(frozen=True, slots=True)
class Rename:
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Sync:
    file: int


@dataclass(frozen=True, slots=True)
class SyncFolder:
    pass


@dataclass(frozen=True, slots=True)
class Cut:
    """The power was cut here, and these files were left, under new numbers."""

    left: tuple[tuple[str, int, bytes], ...]


Unsynced = Write | Truncate | Link | Unlink | Rename
Operation = Unsynced | Sync | SyncFolder | Cut


class Log:
    """What was done to the files of one folder."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._numbers = count()
        self._files: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.operations)

    def opened(self, name: str, *, new: bool) -> int:
        """The number of the file that has this name now."""
        if new or name not in self._files:
            self._files[name] = next(self._numbers)
            self.operations.append(Link(name, self._files[name]))
        return self._files[name]

    def wrote(self, file: int, offset: int, data: bytes) -> None:
        self.operations.append(Write(file, offset, data))

    def truncated(self, file: int, size: int) -> None:
        self.operations.append(Truncate(file, size))

    def synced(self, file: int) -> None:
        self.operations.append(Sync(file))

    def synced_name(self, name: str) -> None:
        """A sync by whoever knows only the file's name."""
        if name in self._files:
            self.synced(self._files[name])

    def synced_folder(self) -> None:
        self.operations.append(SyncFolder())

    def unlinked(self, name: str) -> None:
        if self._files.pop(name, None) is not None:
            self.operations.append(Unlink(name))

    def renamed(self, old: str, new: str) -> None:
        if old in self._files:
            self._files[new] = self._files.pop(old)
            self.operations.append(Rename(old, new))

    def cut(self, left: Files) -> None:
        """Goes on from the files that a power cut left."""
        self._files = {name: next(self._numbers) for name in left}
        self.operations.append(Cut(tuple((name, self._files[name], left[name]) for name in left)))


class Manner(Enum):
    """What becomes of that which was not synced."""

    NOTHING = "nothing of it is kept"
    ALL = "all of it is kept"
    PREFIX = "what was written first is kept"
    SOME = "any of it is kept, whole"
    SECTORS = "any of its sectors are kept"
    RUBBISH = "any of its sectors are kept, and some are full of rubbish"


class Disk:
    """The disk once a log's operations up to some place have been done."""

    def __init__(self) -> None:
        self._synced: dict[int, bytearray] = {}
        self._names: dict[str, int] = {}
        self._waiting: list[Unsynced] = []

    def copy(self) -> "Disk":
        """A disk that goes its own way from here."""
        other = Disk()
        other._synced = {file: bytearray(data) for file, data in self._synced.items()}
        other._names = dict(self._names)
        other._waiting = list(self._waiting)
        return other

    def follow(self, operations: Iterable[Operation]) -> None:
        """Does what the log says."""
        for operation in operations:
            if isinstance(operation, Sync):
                self._settle([w for w in self._waiting if isinstance(w, Write | Truncate) and w.file == operation.file])
            elif isinstance(operation, SyncFolder):
                self._settle([w for w in self._waiting if isinstance(w, Link | Unlink | Rename)])
            elif isinstance(operation, Cut):
                self._waiting = []
                self._names = {name: file for name, file, _ in operation.left}
                self._synced = {file: bytearray(data) for _, file, data in operation.left}
            else:
                self._waiting.append(operation)

    def _settle(self, done: list[Unsynced]) -> None:
        kept = {id(d) for d in done}
        self._waiting = [w for w in self._waiting if id(w) not in kept]
        _do(done, self._synced, self._names)

    @property
    def waiting(self) -> int:
        """How many operations a power cut may undo."""
        return len(self._waiting)

    def cut(self, manner: Manner, rng: random.Random) -> Files:
        """The files that a power cut leaves here."""
        contents = {file: bytearray(data) for file, data in self._synced.items()}
        names = dict(self._names)
        _do(_kept(self._waiting, manner, rng), contents, names)
        return {name: bytes(contents.get(file, b"")) for name, file in names.items()}


def _kept(waiting: list[Unsynced], manner: Manner, rng: random.Random) -> list[Unsynced]:
    if manner is Manner.NOTHING:
        return []
    if manner is Manner.ALL:
        return waiting
    if manner is Manner.PREFIX:
        return waiting[: rng.randint(0, len(waiting))]
    likely = rng.choice([0.1, 0.5, 0.9])
    if manner is Manner.SOME:
        return [w for w in waiting if rng.random() < likely]
    kept: list[Unsynced] = []
    for operation in waiting:
        for piece in _sectors(operation) if isinstance(operation, Write) else [operation]:
            if rng.random() < likely:
                kept.append(piece)
            elif manner is Manner.RUBBISH and isinstance(piece, Write) and rng.random() < likely:
                kept.append(replace(piece, data=rng.randbytes(len(piece.data))))
    return kept


def _sectors(write: Write) -> list[Write]:
    pieces = []
    at = 0
    while at < len(write.data):
        end = at + SECTOR - (write.offset + at) % SECTOR
        pieces.append(Write(write.file, write.offset + at, write.data[at:end]))
        at = end
    return pieces


def _do(operations: Iterable[Unsynced], contents: dict[int, bytearray], names: dict[str, int]) -> None:
    for operation in operations:
        if isinstance(operation, Write):
            content = contents.setdefault(operation.file, bytearray())
            content.extend(bytes(max(0, operation.offset - len(content))))
            content[operation.offset : operation.offset + len(operation.data)] = operation.data
        elif isinstance(operation, Truncate):
            content = contents.setdefault(operation.file, bytearray())
            content.extend(bytes(max(0, operation.size - len(content))))
            del content[operation.size :]
        elif isinstance(operation, Link):
            names[operation.name] = operation.file
        elif isinstance(operation, Unlink):
            names.pop(operation.name, None)
        elif operation.old in names:
            names[operation.new] = names.pop(operation.old)
