"""Looks at topics that do not take the first answer for the last one, and read to an end that was seen before.

A broker may not know yet of a topic that was created a moment ago; one that was away for a while tells what it knew
then. What is refused or given up for a topic's absence can't be taken back.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

from streams.errors import Misconfigured, Unavailable
from streams.ports import Log, Topic, Topics
from streams.records import Record, Tail

QUICK_LOOKS_S = (0.0, 0.1, 0.5)
"""Pauses before each look, where a caller waits for the answer."""
SURE_LOOKS_S = (0.0, 0.5, 2.0)
"""The same, where messages depend on it."""


async def find_topic(kafka: Topics, name: str, *, looks_s: Sequence[float] = QUICK_LOOKS_S) -> Topic | None:
    """The topic; None where no look has found it.

    Raises:
        Unavailable: Kafka does not answer.
    """
    for pause_s in looks_s:
        await asyncio.sleep(pause_s)
        if (topic := await kafka.topic(name)) is not None:
            return topic
    return None


async def believe(check: Callable[[], Awaitable[None]]) -> None:
    """Check again what seems to be misconfigured: a broker that was away for a while tells what it knew then.

    Raises:
        Misconfigured: no look has found it right.
        Exception: what else `check` raises, at once.
    """
    for pause_s in SURE_LOOKS_S:
        await asyncio.sleep(pause_s)
        try:
            return await check()
        except Misconfigured as error:
            wrong = error
    raise wrong


class LogEnds:
    """Where the logs of a topic's partitions end, and how far readers of committed records get; looked at for ever."""

    def __init__(self, kafka: Log, topic: str, partitions: Iterable[int]) -> None:
        self._kafka = kafka
        self._topic = topic
        self._partitions = list(partitions)
        self.stable: dict[int, int] = {}
        """The last stable offsets, by partition."""
        self.written: dict[int, int] = {}
        """The ends of the logs."""

    async def look(self) -> None:
        """Ask for the ends, and for the stable ones where they may be others than before.

        In that order: what is stable up to below an end that was read before, is held there by an open transaction.
        Where nothing was open, and nothing was written since, all is as it was: so an idle topic costs one request.

        Raises:
            Unavailable: Kafka does not answer.
        """
        written = await self._kafka.high_watermarks(self._topic, self._partitions)
        asked = [p for p, end in written.items() if not self.written.get(p) == end == self.stable.get(p)]
        if asked:
            self.stable |= await self._kafka.stable_ends(self._topic, asked)
        self.written = written


async def require_gone(kafka: Topics, name: str) -> None:
    """See that a topic that was not found is not there by the controller's word either.

    Raises:
        Unavailable: it is.
    """
    if not await kafka.is_gone(name):
        raise Unavailable(f"looking at topic {name}: a broker does not know it, the controller does")


async def is_forgotten(kafka: Topics, name: str, id: str) -> bool:
    """Whether no broker knows the topic of this id; where they know none of the name, nor the controller.

    Raises:
        Unavailable: one that others take for alive does not answer.
    """
    known = await kafka.ids(name)
    return id not in known and (bool(known) or await kafka.is_gone(name))


async def read_to(tail: Tail, ends: Mapping[int, int]) -> AsyncIterator[Record]:
    """The records that come until the tail stands at all of these ends (excluded): also some behind an end.

    It waits for transactions that are open below an end, without bound.
    """
    for partition, end in ends.items():
        while (await tail.positions([partition]))[partition] < end:
            for record in await tail.read(timeout_ms=500):
                yield record
