"""Tasks end when they are told to, also where a cancellation gets lost on the way; an error that ends one is told."""

import asyncio
import logging

import pytest

from streams.concurrency.ending import end, say_failure
from streams.errors import Unavailable
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


@timeless
async def test_an_error_that_nobody_waits_for_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(error: BaseException) -> None:
        raise error

    with caplog.at_level(logging.INFO):
        for error in (RuntimeError("a bug"), Unavailable("away"), asyncio.CancelledError()):
            asyncio.create_task(fails(error)).add_done_callback(say_failure)
        await asyncio.sleep(1)
    assert [record.getMessage() for record in caplog.records] == ["worker.failed", "task.failed error=away"]
    assert "a bug" in str(caplog.records[0].exc_info)
