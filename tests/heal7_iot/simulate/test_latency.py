"""Quantiles that hours of batches do not make larger."""

import random

from heal7_iot.simulate.latency import Latencies


def test_quantiles_are_those_of_the_sorted_list_but_for_a_class() -> None:
    latencies = Latencies()
    dice = random.Random(3)
    added = sorted(dice.lognormvariate(-2, 1.5) for _ in range(20_000))
    for seconds in dice.sample(added, len(added)):
        latencies.add(seconds, 0.0)
    for share in (0.01, 0.5, 0.95, 0.999):
        exact = added[int(share * len(added))]
        found = latencies.quantile_s(share)
        assert found is not None
        assert exact / 1.05 - 0.001 <= found <= exact * 1.05 + 0.001
    assert latencies.longest_s == added[-1]
    assert latencies.quantile_s(1.0) == added[-1]


def test_recent_ones_forget_the_past() -> None:
    latencies = Latencies()
    for _ in range(1_000):
        latencies.add(60.0, 100.0)
    for _ in range(100):
        latencies.add(0.01, 103.0)
    assert latencies.recent_s(104.0, 0.05, 0.5) == (0.01, 60.0)
    assert latencies.recent_s(106.0, 0.5, 0.95) == (0.01, 0.01)
    assert latencies.recent_s(109.0, 0.5) == (None,)
    whole_s = latencies.quantile_s(0.5)
    assert whole_s is not None
    assert whole_s > 50


def test_before_the_first_there_is_none() -> None:
    assert Latencies().quantile_s(0.5) is None
    assert Latencies().recent_s(0.0, 0.5) == (None,)


def test_nothing_at_all_counts_as_the_smallest() -> None:
    latencies = Latencies()
    latencies.add(0.0, 0.0)
    assert latencies.quantile_s(0.5) == 0.0
