"""Tells soon, and in words, what a piece of work waits for just now: to the client that waits for the work."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from streams.concurrency.ending import end

_LATE_S = 4.0
"""A wait of this length is told, which takes a moment itself: within 5 s in all."""
_RETRY_S = 1.0
"""The pause after what could not be said."""


class Wait:
    """Tells `say` what is waited for, once for each reason that lasts; work that gets on tells nobody.

    As a context manager, for as long as the work lasts. `say` is also told for how many seconds that has been so, and
    returns whether it could be said.
    """

    def __init__(self, why: str, say: Callable[[str, float], Awaitable[bool]]) -> None:
        self._say = say
        self._said = ""
        self._why = why
        self._since = time.monotonic()
        self._changed = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None

    def now(self, why: str) -> None:
        """From now on, it waits for this."""
        if why != self._why:
            self._why = why
            self._since = time.monotonic()
            self._changed.set()

    async def tell(self, why: str) -> None:
        """It waits for this, and that is said at once, unless it was the last thing said."""
        self.now(why)
        if why != self._said and await self._say(why, time.monotonic() - self._since):
            self._said = why

    async def __aenter__(self) -> Self:
        self._telling = asyncio.create_task(self._tell_in_time())
        return self

    async def stop(self) -> None:
        """Tell nothing any more: what was begun to be told has been, or won't be, once this returns."""
        if self._telling is not None:
            await end([self._telling])

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _tell_in_time(self) -> None:
        # Ten thousand may wait at a time: one that has said why does not even look at the clock.
        while True:
            self._changed.clear()
            left_s = self._since + _LATE_S - time.monotonic()
            if self._why == self._said:
                await self._changed.wait()
            elif left_s > 0:
                await asyncio.sleep(left_s)
            else:
                await self.tell(self._why)
                if self._why != self._said:
                    await asyncio.sleep(_RETRY_S)
