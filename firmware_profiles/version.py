"""Firmware versions as numbers: `1.10` comes after `1.9`, and `2` equals `2.0`."""

import re

Version = tuple[int, ...]

# Devices report their version over the air: the bound keeps a hostile one from costing memory or time.
_DOTTED = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,7}")


def parse_version(text: str) -> Version | None:
    """The numbers of a dotted version without trailing zeros; None if `text` is not such a version."""
    if not _DOTTED.fullmatch(text):
        return None
    numbers = [int(part) for part in text.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
