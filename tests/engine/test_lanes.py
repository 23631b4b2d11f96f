"""Lanes: in order within one, side by side across them, and none left behind."""

import asyncio

import pytest

from streams.lanes import Lanes
from tests.fakes.clock import timeless


@timeless
async def test_in_order_within_one_and_side_by_side_across() -> None:
    lanes, seen = Lanes(2), []

    async def work(lane: str, name: str) -> None:
        async with lanes.lane(lane):
            seen.append(f"{name} begins")
            await asyncio.sleep(1)
            seen.append(f"{name} ends")

    await asyncio.gather(work("a", "a1"), work("a", "a2"), work("b", "b1"))
    assert seen.index("a1 ends") < seen.index("a2 begins")
    assert seen.index("b1 begins") < seen.index("a1 ends")


@timeless
async def test_no_more_at_a_time_than_the_limit_and_none_of_it_taken_by_who_waits() -> None:
    lanes, busy, most = Lanes(2), 0, 0
    ended: dict[str, float] = {}

    async def work(lane: str) -> None:
        nonlocal busy, most
        async with lanes.lane(lane):
            busy += 1
            most = max(most, busy)
            await asyncio.sleep(1)
            busy -= 1
        ended[lane] = asyncio.get_running_loop().time()

    await asyncio.gather(*(work("a") for _ in range(3)), *(work(name) for name in "bcd"))
    assert most == 2
    # Those who wait in lane a take no slot: the others go on beside it.
    assert ended == {"a": 4, "b": 1, "c": 2, "d": 2}


@timeless
async def test_who_fails_or_gives_up_leaves_the_lane_free() -> None:
    lanes = Lanes(1)
    with pytest.raises(RuntimeError):
        async with lanes.lane("a"):
            raise RuntimeError
    entered = asyncio.Event()

    async def wait_in_it() -> None:
        async with lanes.lane("a"):
            entered.set()
            await asyncio.sleep(1_000)

    first, second = asyncio.create_task(wait_in_it()), asyncio.create_task(wait_in_it())
    await entered.wait()
    second.cancel()
    first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    async with asyncio.timeout(1), lanes.lane("a"):
        pass
    assert lanes._locks == {}
    assert lanes._waiting == {}
