"""The standing work of a worker: rounds, each at its own pace. One that fails does not stop the others."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from streams.concurrency.ending import end
from streams.errors import XferqError

_log = logging.getLogger(__name__)
Round = tuple[str, Callable[[], Awaitable[None]], float]
"""Its name in the log, what it does, and the pause after it in seconds."""


class Maintenance:
    """Repeats rounds until it is stopped."""

    def __init__(self, rounds: Sequence[Round]) -> None:
        self._rounds = rounds
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin the rounds, unless they have begun."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._repeat(*round)) for round in self._rounds]

    async def stop(self) -> None:
        """End them."""
        await end(self._tasks)

    async def _repeat(self, name: str, work: Callable[[], Awaitable[None]], every_s: float) -> None:
        while True:
            try:
                await work()
            except XferqError as error:
                _log.warning("maintenance.again work=%s error=%s", name, error)
            except Exception:  # noqa: BLE001 - a bug must not end the rounds for as long as the worker lives
                _log.exception("maintenance.failed work=%s", name)
            await asyncio.sleep(every_s)
