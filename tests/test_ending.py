"""Tasks end when they are told to, also where a cancellation gets lost on the way."""

import asyncio

from streams.ending import end
from tests.fakes.clock import timeless


@timeless
async def test_a_task_that_has_lost_its_cancellation_is_cancelled_again() -> None:
    lost = 0

    async def forgetful() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(1_000)
            except asyncio.CancelledError:
                lost += 1
                if lost == 3:
                    raise

    async def failing() -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            raise RuntimeError

    async def through() -> None:
        """It has ended before."""

    tasks = [asyncio.create_task(work()) for work in (forgetful, failing, through)]
    await asyncio.sleep(1)
    async with asyncio.timeout(10):
        await end(tasks)
    assert all(task.done() for task in tasks)
    assert lost == 3
    await end([])
