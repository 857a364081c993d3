"""What tests of serial lines share: a clock moved by hand, and a look at open terminals."""

import asyncio
from pathlib import Path


class HandClock:
    """Stands still until it is set; `asked` tells that something was dated."""

    def __init__(self) -> None:
        self.now_us = 0
        self.asked = asyncio.Event()

    def __call__(self) -> int:
        self.asked.set()
        return self.now_us


def open_terminals() -> list[str]:
    """The terminals and files of a test that this process has open, by what their descriptors lead to."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:  # the descriptor of this listing itself
            continue
        if target.startswith(("/dev/pts", "/dev/ptmx")) or "not-a-line" in target:
            found.append(target)
    return sorted(found)
