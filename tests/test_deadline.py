"""The end of one's patience."""

import asyncio

from streams.concurrency.deadline import Deadline, comes_true
from tests.fakes.clock import timeless


@timeless
async def test_a_deadline_is_over_once_its_time_has_passed() -> None:
    deadline = Deadline(2)
    await asyncio.sleep(1.9)
    assert not deadline.is_over
    await asyncio.sleep(0.1)
    assert deadline.is_over


@timeless
async def test_what_comes_true_in_time_is_seen_by_the_next_answer() -> None:
    began = asyncio.get_running_loop().time()

    async def is_so() -> bool:
        return asyncio.get_running_loop().time() - began >= 1

    assert await comes_true(is_so, 5, 0.3)
    assert 1 <= asyncio.get_running_loop().time() - began < 1.5


@timeless
async def test_what_does_not_come_true_is_asked_for_until_the_time_is_over_and_once_at_least() -> None:
    asked = 0

    async def is_so() -> bool:
        nonlocal asked
        asked += 1
        return False

    assert not await comes_true(is_so, 1, 0.5)
    assert asked == 3
    assert not await comes_true(is_so, 0, 0.5)
    assert asked == 4
