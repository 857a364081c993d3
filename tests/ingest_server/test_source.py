"""When the source hands out batches: at once, after a while, or as soon as there are enough."""

import asyncio
import itertools

from ingest_server.source import MqttSource
from tests.ingest_server.line import TOPICS, HandFed

LONG_S = 3_600.0
"""The source's clock stands at 0: nobody waits this long, and what ends sooner was ended by something else."""


def feed(source: HandFed, most: int) -> None:
    for n in range(most):
        source.feed(TOPICS.batch("site/gw"), bytes([n]))


async def hands_out_nothing(source: MqttSource) -> asyncio.Task[list[bytes]]:
    async def payloads() -> list[bytes]:
        return [delivery.payload for delivery in await source.batches(10, LONG_S)]

    asking = asyncio.create_task(payloads())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not asking.done()
    return asking


async def test_whoever_may_have_them_at_once_gets_what_is_there() -> None:
    source = HandFed(receive_maximum=100)
    feed(source, 3)
    assert len(await source.batches(10, 0.0)) == 3
    feed(source, 3)
    assert len(await source.batches(2, 0.0)) == 2


async def test_others_are_waited_for_until_there_are_half_of_what_the_broker_sends_ahead() -> None:
    source = HandFed(receive_maximum=6)
    feed(source, 2)
    asking = await hands_out_nothing(source)
    feed(source, 1)
    async with asyncio.timeout(60):
        assert await asking == [b"\0", b"\1", b"\0"]


async def test_a_wait_ends_though_nothing_else_comes() -> None:
    clock_s = itertools.count()
    source = HandFed(receive_maximum=6, clock_s=lambda: float(next(clock_s)))
    feed(source, 2)
    async with asyncio.timeout(60):
        assert len(await source.batches(10, 3.0)) == 2


async def test_who_has_sent_a_good_number_and_falls_silent_is_not_kept_waiting() -> None:
    """A broker that sends 20 ahead, whatever it was asked for, sends nothing more until we acknowledge."""
    source = HandFed(receive_maximum=500)
    feed(source, 20)
    async with asyncio.timeout(60):
        assert len(await source.batches(500, LONG_S)) == 20
