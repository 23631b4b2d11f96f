"""The end of one's patience, by the monotonic clock."""

import asyncio
import time
from collections.abc import Awaitable, Callable


class Deadline:
    """So many seconds from now."""

    def __init__(self, within_s: float) -> None:
        self._at = time.monotonic() + within_s

    @property
    def is_over(self) -> bool:
        """Whether it has come."""
        return time.monotonic() >= self._at


async def comes_true(is_so: Callable[[], Awaitable[bool]], within_s: float, pause_s: float) -> bool:
    """Ask again and again, with pauses, until it is so, or the time is over; what the last answer was.

    Raises:
        Exception: what `is_so` raises.
    """
    deadline = Deadline(within_s)
    while True:
        if (found := await is_so()) or deadline.is_over:
            return found
        await asyncio.sleep(pause_s)
