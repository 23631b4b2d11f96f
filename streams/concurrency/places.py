"""Places: how many tasks do something at a time, so that one that can't get on keeps no other out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Places:
    """A number of places for first attempts, and as many for what has failed before.

    A place is held for one attempt, which ends in a bounded time. So the first attempt of anything waits for first
    attempts only, however much is being tried again and again.
    """

    def __init__(self, count: int) -> None:
        self._first = asyncio.Semaphore(count)
        self._again = asyncio.Semaphore(count)

    @asynccontextmanager
    async def place(self, *, is_again: bool) -> AsyncIterator[None]:
        """Have one, for one attempt."""
        async with self._again if is_again else self._first:
            yield
