"""What the storage benchmark makes of what it measured."""

from bench.storage import ends_of
from heal7_iot.simulate.backfill.load import Step


def test_rates_are_of_the_transactions_at_both_ends() -> None:
    """A twentieth of 400 readings each: refreshes in between belong to neither."""
    steps = [Step(10, 0, 0.1), Step(0, 5, 9.0), *(Step(10, 0, 1.0) for _ in range(37)), Step(0, 5, 9.0)]
    steps += [Step(10, 0, 0.3), Step(10, 0, 0.1)]
    first, last = ends_of(steps, 400)
    assert first == 20 / 1.1
    assert last == 20 / 0.4
