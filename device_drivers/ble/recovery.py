"""What to do about a radio that nothing is heard from, and when. No I/O, no clock: time is an argument, in seconds.

Silence has two causes that cannot be told apart for sure: a radio that is deaf, and a room without anything that
sends. So the steps are harmless in an empty room, the gentle ones first, and rarer the longer they do not help.
"""

from enum import Enum

# What a radio that comes back must stand before its next silence begins with the gentlest step again; without it, one
# that hears a single advertisement after each new scanner would never get further.
STEADY_SILENCES = 5

# In an empty room a radio is left alone for at most so long.
LONGEST_PATIENCE_S = 3600.0


class Step(Enum):
    """In this order; the text is the kind of fault under which it is counted."""

    NEW_SCANNER = "radio_new_scanners"
    POWER_CYCLE = "radio_power_cycles"
    RESTART_REQUEST = "radio_restart_requests"


_STEPS = tuple(Step)


class Recovery:
    """Of one adapter. Each round goes through all steps, with twice the patience of the round before."""

    def __init__(self, silence_s: float, now_s: float) -> None:
        """silence_s: how long nothing at all may be heard before a step is taken."""
        self._silence_s = silence_s
        self._heard_s = now_s
        self._acted_s = now_s
        self._taken = 0

    def heard(self, now_s: float) -> None:
        """Notes an advertisement of whatever device."""
        self._heard_s = now_s

    @property
    def silent_since_s(self) -> float:
        return self._heard_s

    def due_s(self) -> float:
        """When the next step is due unless something is heard before."""
        rounds = self._taken // len(_STEPS)
        patience_s = min(self._silence_s * 2.0 ** min(rounds, 32), max(LONGEST_PATIENCE_S, self._silence_s))
        if self._heard_s > self._acted_s:
            patience_s = self._silence_s
        return max(self._heard_s, self._acted_s) + patience_s

    def step(self, now_s: float) -> Step | None:
        """The step to take now; None before `due_s`."""
        if now_s < self.due_s():
            return None
        if self._heard_s - self._acted_s >= STEADY_SILENCES * self._silence_s:
            self._taken = 0
        step = _STEPS[self._taken % len(_STEPS)]
        self._taken += 1
        self._acted_s = now_s
        return step
