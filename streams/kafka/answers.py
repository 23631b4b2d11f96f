"""Waiting for many answers of confluent-kafka at once."""

import asyncio
import itertools
from collections.abc import Collection
from concurrent.futures import Future
from contextlib import suppress
from typing import Any


async def all_answered(futures: Collection[Future[Any]]) -> None:
    """Wait until each of them has its result, or its error.

    The event loop is woken once, and not for each of hundreds of partitions: that was most of what an idle worker cost.
    """
    if not futures:
        return
    loop = asyncio.get_running_loop()
    everything = loop.create_future()
    answered = itertools.count(1)  # of which one step is atomic: librdkafka's thread and this one take them

    def say() -> None:
        if not everything.done():
            everything.set_result(None)

    def count(_: Future[Any]) -> None:
        if next(answered) == len(futures):
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(say)

    for future in futures:
        future.add_done_callback(count)
    await everything
