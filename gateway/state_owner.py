"""Whose state folder it is: what was sealed under one name is never sent under another.

An identity begins with the gateway's name. Under a new name the server knows nothing of the spool's epochs, its answer
takes back all that the replay window still holds, and every reading of it would be in the database twice.
"""

import contextlib
import os
from pathlib import Path

_MAX_NAME = 200


def owner(state_dir: Path) -> str | None:
    """`<site>/<name>` of the gateway that filled the folder; None where nobody has yet. Raises OSError."""
    try:
        with _file(state_dir).open(encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_NAME).strip() or None
    except FileNotFoundError:
        return None


def claim(state_dir: Path, identity: str) -> str | None:
    """Makes the folder this gateway's; says why not where it is another's. Raises OSError."""
    fault = owner_fault(state_dir, identity)
    if fault is None and owner(state_dir) is None:
        draft = _file(state_dir).with_suffix(".draft")
        # A disk without a byte left is no reason not to start: the next start writes it.
        with contextlib.suppress(OSError):
            with draft.open("w", encoding="utf-8") as file:
                file.write(identity + "\n")
                file.flush()
                os.fsync(file.fileno())
            draft.replace(_file(state_dir))
    return fault


def owner_fault(state_dir: Path, identity: str) -> str | None:
    """Why this gateway may not use the folder; None where it may. Raises OSError."""
    other = owner(state_dir)
    if other is None or other == identity:
        return None
    return (
        f"{state_dir} is the spool of {other}: sent as {identity}, its readings would be counted twice; call this"
        f" gateway {other} until nothing of it is held, or move the folder aside with what it still holds"
    )


def _file(state_dir: Path) -> Path:
    return state_dir / "gateway-name"
