"""Locks by key: in order for one, side by side across keys, none left behind. Places: nobody kept out by who waits."""

import asyncio

import pytest

from streams.concurrency.keyed_locks import KeyedLocks
from streams.concurrency.places import Places
from tests.fakes.clock import timeless


@timeless
async def test_in_order_within_one_and_side_by_side_across() -> None:
    locks, seen = KeyedLocks(), []

    async def work(lane: str, name: str) -> None:
        async with locks.held(lane):
            seen.append(f"{name} begins")
            await asyncio.sleep(1)
            seen.append(f"{name} ends")

    await asyncio.gather(work("a", "a1"), work("a", "a2"), work("b", "b1"))
    assert seen.index("a1 ends") < seen.index("a2 begins")
    assert seen.index("b1 begins") < seen.index("a1 ends")


@timeless
async def test_first_attempts_wait_for_first_attempts_only() -> None:
    places, busy, most = Places(2), 0, 0
    ended: dict[str, float] = {}

    async def work(name: str, lasts_s: float, *, is_again: bool) -> None:
        nonlocal busy, most
        async with places.place(is_again=is_again):
            busy += not is_again
            most = max(most, busy)
            await asyncio.sleep(lasts_s)
            busy -= not is_again
        ended[name] = asyncio.get_running_loop().time()

    stuck = [asyncio.create_task(work(f"stuck{number}", 1_000, is_again=True)) for number in range(5)]
    await asyncio.gather(*(work(name, 1, is_again=False) for name in "abcd"))
    assert most == 2
    assert ended == {"a": 1, "b": 1, "c": 2, "d": 2}
    await asyncio.gather(*stuck)


@timeless
async def test_who_fails_or_gives_up_leaves_the_lock_free() -> None:
    locks = KeyedLocks()
    with pytest.raises(RuntimeError):
        async with locks.held("a"):
            raise RuntimeError
    entered = asyncio.Event()

    async def wait_in_it() -> None:
        async with locks.held("a"):
            entered.set()
            await asyncio.sleep(1_000)

    first, second = asyncio.create_task(wait_in_it()), asyncio.create_task(wait_in_it())
    await entered.wait()
    second.cancel()
    first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    async with asyncio.timeout(1), locks.held("a"):
        pass
    assert locks._locks == {}
    assert locks._waiting == {}
