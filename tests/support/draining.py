"""A queue partition drained here and now, in whoever's share it is."""

import asyncio
from collections.abc import Callable

from streams.drain.drainer import Drainer


async def drain(
    drainer: Drainer, topic: str, partition: int, may_continue: Callable[[], bool] = lambda: True
) -> list[str]:
    """Attempt after attempt, as `streams.drain.drains` does it; the commands of which a range was finished.

    Raises:
        Revoked: `may_continue` became false.
    """
    drained: list[str] = []
    while (again_s := await drainer.attempt(topic, partition, may_continue, drained)) is not None:
        await asyncio.sleep(again_s)
    return drained
