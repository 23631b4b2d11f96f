"""What the API has lately failed to take: whoever asks whether it can work is told, until it can again."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from streams.errors import XferqError

_LOOK_S = 5.0
_PUBLISHED_S = 30.0
"""A failure to publish can't be looked for, as a look would be a command: it counts for so long."""


@dataclass(frozen=True, slots=True)
class _Failure:
    why: str
    at: float


class Failures:
    """By what had to be waited for: a name in the ledger, or None where a command could not be published."""

    def __init__(self) -> None:
        self._failed: dict[str | None, _Failure] = {}
        self._succeeded = -1.0

    def add(self, name: str | None, why: str) -> None:
        """Something was not taken."""
        self._failed[name] = _Failure(why, time.monotonic())

    def succeed(self, name: str) -> None:
        """Something was taken, and published."""
        self._succeeded = time.monotonic()
        self._failed.pop(name, None)
        self._failed.pop(None, None)

    async def look(self, passes: Callable[[str], Awaitable[None]]) -> None:
        """See whether what has failed goes on failing: `passes` has to come to its end for a name, and soon."""
        now = time.monotonic()
        unpublished = self._failed.get(None)
        if unpublished is not None and now - unpublished.at >= _PUBLISHED_S:
            del self._failed[None]

        async def look(name: str) -> None:
            with suppress(XferqError, TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await passes(name)
                self._failed.pop(name, None)

        await asyncio.gather(*(look(name) for name in list(self._failed)[:8] if name is not None))

    @property
    def notes(self) -> list[str]:
        """Why something was not taken lately, each reason once."""
        return list(dict.fromkeys(failure.why for failure in self._failed.values()))

    @property
    def problem(self) -> str | None:
        """Why nothing is taken; None where something was, after the first thing that was not, or nothing failed."""
        first = min((failure.at for failure in self._failed.values()), default=None)
        if first is None or self._succeeded > first:
            return None
        return f"commands are not taken: {self.notes[0]}"
