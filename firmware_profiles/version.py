"""Firmware versions as numbers (`1.10` comes after `1.9`, and `2` equals `2.0`), and ranges of them."""

import re
from dataclasses import dataclass
from typing import Self

Version = tuple[int, ...]

# Devices report their version over the air: the bound keeps a hostile one from costing memory or time.
_DOTTED = r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,7}"
_CLAUSE = re.compile(rf"(>=|<=|==|~=|>|<) ?({_DOTTED})")

SPECIFIERS = rf"^(>=|<=|==|~=|>|<) ?{_DOTTED}(, ?(>=|<=|==|~=|>|<) ?{_DOTTED}){{0,7}}$"
"""What a range looks like, for editors: a subset of PEP 440's version specifiers."""


def parse_version(text: str) -> Version | None:
    """The numbers of a dotted version without trailing zeros; None if `text` is not such a version."""
    if not re.fullmatch(_DOTTED, text):
        return None
    return _trimmed([int(part) for part in text.split(".")])


def _trimmed(numbers: list[int]) -> Version:
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


@dataclass(frozen=True, slots=True)
class FirmwareRange:
    """Versions from `low` to `high` (None: without end), each with itself or without.

    text: as it was written; empty for every firmware, also one that nobody knows.
    """

    text: str = ""
    low: Version = ()
    low_included: bool = True
    high: Version | None = None
    high_included: bool = True

    @classmethod
    def parse(cls, text: str) -> Self:
        """From specifiers such as `>=1.4,<2`, all of which must hold (PEP 440 without `!=`, `===` and `.*`).

        Raises ValueError, which says what would be right.
        """
        if not re.fullmatch(SPECIFIERS, text):
            if parse_version(text) is not None:
                raise ValueError(f'write ">={text}" for it and all after it, "=={text}" for it alone')
            raise ValueError('write a range such as ">=1.4,<2", with >=, >, <=, <, ==, ~= and dotted numbers')
        found = cls(text)
        for operator, version in _CLAUSE.findall(text):
            found = found._and(_clause(operator, version))
        if found._is_empty():
            raise ValueError(f'no version is in "{text}": the lower bound must be below the upper one')
        return found

    def __str__(self) -> str:
        return self.text or "any"

    def holds(self, firmware: str) -> bool:
        """Whether a device that reports `firmware` is meant.

        A version that is unknown (empty) or not a dotted number cannot be compared: it is held only by a range
        without bounds, whose profile says with that that it is right for every firmware.
        """
        if not self.text:
            return True
        version = parse_version(firmware)
        if version is None:
            return False
        below = self.high is None or version < self.high or (self.high_included and version == self.high)
        return below and (self.low < version or (self.low_included and self.low == version))

    def overlaps(self, other: "FirmwareRange") -> bool:
        """Whether some version lies in both ranges."""
        return not self._and(other)._is_empty()

    def _and(self, other: "FirmwareRange") -> Self:
        # Of two bounds at one version the one without it is the narrower.
        low, low_excluded = max((self.low, not self.low_included), (other.low, not other.low_included))
        highs = [(r.high, r.high_included) for r in (self, other) if r.high is not None]
        high, high_included = min(highs, default=(None, True))
        return type(self)(self.text, low, not low_excluded, high, high_included)

    def _is_empty(self) -> bool:
        if self.high is None or self.low < self.high:
            return False
        return self.low > self.high or not (self.low_included and self.high_included)


def _clause(operator: str, text: str) -> FirmwareRange:
    numbers = [int(part) for part in text.split(".")]
    version = _trimmed(list(numbers))
    if operator == "~=":
        if len(numbers) == 1:
            raise ValueError(f'"~={text}" needs a second number: write "~={text}.0" or ">={text},<{numbers[0] + 1}"')
        # As PEP 440 has it: the last number may grow, the one before it may not.
        return FirmwareRange(text, version, high=_trimmed([*numbers[:-2], numbers[-2] + 1]), high_included=False)
    if operator == "==":
        return FirmwareRange(text, version, high=version)
    if operator in (">", ">="):
        return FirmwareRange(text, version, low_included=operator == ">=")
    return FirmwareRange(text, high=version, high_included=operator == "<=")
