"""The end of tasks that would go on for ever."""

import asyncio
from collections.abc import Iterable
from typing import Any

_AGAIN_S = 0.5


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel them, and wait until they have ended, however that is; again those that go on all the same.

    A cancellation gets lost where what a task waits for comes at the same moment: `asyncio.wait_for` before Python 3.12
    swallows it then (CPython's issue 86296), and libraries use that. Who waited for such a task would wait for ever.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        ended, left = await asyncio.wait(left, timeout=_AGAIN_S)
        for task in ended:
            if not task.cancelled():
                task.exception()  # nobody is to be told of it
