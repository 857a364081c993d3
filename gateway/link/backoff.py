"""Waiting times that keep a fleet from returning in step."""

from collections.abc import Callable
from random import random


class FullJitter:
    """Exponential backoff, each wait drawn evenly between 0 and the bound that doubles.

    Full jitter spreads a fleet best: a wait of fixed length, or of half jitter, keeps the waves of clients
    that one outage has put in step.
    """

    def __init__(self, first_s: float, longest_s: float, draw: Callable[[], float] = random) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._draw = draw
        self._attempts = 0

    def next_s(self) -> float:
        """How long to wait before the next attempt, in seconds."""
        bound = bound_s(self._first_s, self._longest_s, self._attempts)
        self._attempts += 1
        return bound * self._draw()

    def reset(self) -> None:
        """It worked: the next wait is short again."""
        self._attempts = 0


def bound_s(first_s: float, longest_s: float, attempts: int) -> float:
    """The longest wait after so many attempts, in seconds."""
    return min(longest_s, first_s * 2.0 ** min(attempts, 32))
