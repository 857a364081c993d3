"""How far long work is, told to whoever watches."""

from typing import Protocol


class Progress(Protocol):
    """Is told of one stage after the other."""

    def begin(self, stage: str, total: int) -> None:
        """A stage of so many bytes, or rows, begins. 0: unknown."""

    def advance(self, amount: int) -> None:
        """So many more of them are done."""


class Unwatched:
    """Nobody watches."""

    def begin(self, stage: str, total: int) -> None:
        pass

    def advance(self, amount: int) -> None:
        pass
