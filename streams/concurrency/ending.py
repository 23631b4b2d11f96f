"""The end of tasks that nobody waits for: told where it was an error, and brought about where they would go on."""

import asyncio
import logging
from collections.abc import Collection, Coroutine, Iterable
from contextlib import suppress
from typing import Any, TypeVar

from streams.errors import XferqError

_log = logging.getLogger(__name__)
_RETRY_S = 0.5
_CANCEL_S = 1.0
_Result = TypeVar("_Result")


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel them, and wait until they have ended, however that is; again those that go on all the same.

    A cancellation gets lost where what a task waits for comes at the same moment: `asyncio.wait_for` before Python 3.12
    swallows it then (CPython's issue 86296), and libraries use that. Waiting for such a task would never end.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        ended, left = await asyncio.wait(left, timeout=_RETRY_S)
        for task in ended:
            if not task.cancelled():
                task.exception()  # nobody is to be told of it


async def end_after(within_s: float, tasks: Collection[asyncio.Task[Any]]) -> None:
    """Wait until they have ended by themselves, but not longer than `within_s`; then cancel them.

    One that goes on all the same is left alone soon.
    """
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=within_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_CANCEL_S)


async def uncut(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Do it to its end, even if its caller is cancelled meanwhile: the cancellation comes afterwards."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):  # it is cancelled already
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody is to be told of it
        raise


class Background:
    """Tasks that nobody waits for, until they are stopped all together."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin one more; an error of it is told."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(say_failure)

    async def idle(self, within_s: float) -> None:
        """Wait until they have ended, but not longer than `within_s`; then cancel them."""
        await end_after(within_s, self._tasks)

    async def ended(self) -> None:
        """Wait until those that have begun have ended by themselves."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def stop(self) -> None:
        """End them."""
        await end(self._tasks)


def say_failure(task: asyncio.Task[Any]) -> None:
    """Log the error that a task ended with, as its done callback: at once, and not when it happens to be collected."""
    error = None if task.cancelled() else task.exception()
    if isinstance(error, XferqError):
        _log.info("task.failed error=%s", error)  # no caller waits: another one does it again, or it need not be
    elif error is not None:
        _log.error("worker.failed", exc_info=error)
