"""A look for a topic that does not take the first no for an answer.

A broker may not know yet of a topic that was created a moment ago; one that was away for a while tells what it knew
then. What is refused or given up for a topic's absence can't be taken back.
"""

import asyncio
from collections.abc import Sequence

from streams.ports import Kafka, Topic

SOON_S = (0.0, 0.1, 0.5)
"""Pauses before each look, where somebody waits for the answer."""
SURE_S = (0.0, 0.5, 2.0)
"""The same, where messages depend on it."""


async def find_topic(
    kafka: Kafka, name: str, *, id: str | None = None, looks_s: Sequence[float] = SOON_S
) -> Topic | None:
    """The topic, with this id if one is given; None where no look has found it.

    Raises:
        Unavailable: Kafka does not answer.
    """
    for pause_s in looks_s:
        await asyncio.sleep(pause_s)
        topic = await kafka.topic(name)
        if topic is not None and id in (None, topic.id):
            return topic
    return None
