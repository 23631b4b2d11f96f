"""What the API has lately failed to take: its readiness probe tells of it, until it can again."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass

from streams.errors import XferqError

_LOOK_S = 5.0
_RECENT_S = 10.0
_PUBLISHED_S = 30.0
"""A failure to publish can't be looked for, as a look would be a command: it counts for so long."""
_PUBLISHING = "publishing"


@dataclass(frozen=True, slots=True)
class _Failure:
    name: str
    why: str
    at: float


class Failures:
    """By place: a partition of the ledger, for which the last name that lies there stands, or the commands topic."""

    def __init__(self) -> None:
        self._failed: dict[Hashable, _Failure] = {}
        self._succeeded = -math.inf

    def add(self, partition: int, name: str, why: str) -> None:
        """Something could not be written to, or asked of, the ledger."""
        self._failed[partition] = _Failure(name, why, time.monotonic())

    def add_unpublished(self, why: str) -> None:
        """A command could not be published."""
        self._failed[_PUBLISHING] = _Failure("", why, time.monotonic())

    def succeed(self, partition: int) -> None:
        """Something was taken, with all that lies in that partition of the ledger, and published."""
        self._succeeded = time.monotonic()
        self._failed.pop(partition, None)
        self._failed.pop(_PUBLISHING, None)

    async def look(self, passes: Callable[[str], Awaitable[None]]) -> None:
        """See whether what has failed goes on failing: `passes` has to come to its end for a name, and soon."""
        unpublished = self._failed.get(_PUBLISHING)
        if unpublished is not None and time.monotonic() - unpublished.at >= _PUBLISHED_S:
            del self._failed[_PUBLISHING]

        async def look(partition: Hashable, name: str) -> None:
            with suppress(XferqError, TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await passes(name)
                self._failed.pop(partition, None)

        failed = [(place, failure.name) for place, failure in self._failed.items() if place != _PUBLISHING]
        await asyncio.gather(*(look(*one) for one in failed))

    @property
    def notes(self) -> list[str]:
        """Why something was not taken lately, each reason once."""
        return list(dict.fromkeys(failure.why for failure in self._failed.values()))

    @property
    def problem(self) -> str | None:
        """Why nothing is taken; None where something was, a moment ago or after the last thing that was not."""
        last = max((failure.at for failure in self._failed.values()), default=None)
        if last is None or self._succeeded >= last - _RECENT_S:
            return None
        return f"commands are not taken: {self.notes[0]}"
