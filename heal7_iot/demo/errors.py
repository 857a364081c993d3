"""Why a demonstration ends early."""


class DemoError(Exception):
    """Its text is for the person at the terminal; the demonstration ends with code 1."""


class PartDied(DemoError):
    """A part of the line ended though nobody asked it to; the text holds its last log lines."""

    def __init__(self, name: str, code: int | None, last_lines: str) -> None:
        how = "" if code is None else f" with code {code}"
        super().__init__(f"the {name} ended by itself{how}. Its last lines:\n{last_lines or '(it said nothing)'}")


class Interrupted(Exception):
    """A signal came before the line ran."""
