"""Which ledger topic is this cluster's: its id is kept outside it, so that no worker takes a topic made again for it.

An empty ledger looks as if nothing had ever been claimed: a worker that went by it would free what was claimed and not
drained. A program that makes topics again, such as a topic operator, may do so within a second.

The id is the metadata of committed offsets, for the first partition of each of xferq's other topics, in a group of its
own. It has no members, so every worker may commit. Kafka forgets a committed offset when its topic is deleted, so only
the loss of all these topics takes the memory along; and when its time is over, which is asked to be years, and begins
anew with every start of a worker and some times a day.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from aiokafka import errors as aio
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.commit import OffsetCommitRequest

from streams.errors import Misconfigured, Unavailable
from streams.kafka.acls import ledger_group
from streams.kafka.cluster import Cluster
from streams.kafka.groups import coordinator
from streams.kafka.translate import describing, reading, translating
from streams.kafka.wire.offset_fetch import OffsetFetch
from streams.lookup import SURE_LOOKS_S, believe, find_topic
from streams.settings.settings import Settings

_KEEP_MS = 10 * 365 * 24 * 3600 * 1000
_NO_GENERATION = -1
_RETRY_S = 0.05


class LedgerId:
    """The memory of the ledger topic's id: `open` it before the ledger is read, `look` while it is used."""

    def __init__(self, kafka: Cluster, settings: Settings) -> None:
        self._kafka = kafka
        self._name = settings.ledger_topic
        self._timeout_s = settings.request_timeout_ms / 1000
        self._group = ledger_group(settings)
        self._topics = (settings.commands_topic, settings.drains_topic, settings.log_topic)
        self._known: frozenset[str] = frozenset()

    async def open(self, *, remember: bool) -> None:
        """See that the topic is the one that was used so far, or the first one; with `remember`, it is noted as that.

        Raises:
            Misconfigured: it is another one.
            Unavailable: there is none just now, or Kafka does not answer.
            Refused: Kafka does not permit it.
        """
        self._known = await self._remembered()
        if self._known:
            await self.look()
        else:
            self._known = frozenset([await self._present()])
        if remember:
            await self.renew()

    async def look(self) -> None:
        """See that it still is, every few seconds.

        Raises:
            Misconfigured: it is another one, however often one looks.
            Unavailable: Kafka does not answer.
        """
        await believe(self._require_known)

    async def _require_known(self) -> None:
        topic = await self._kafka.topic(self._name)
        if topic is not None and topic.id not in self._known:  # that there is none, others say
            raise Misconfigured(
                f"topic {self._name} is not the one that was used so far, but one that was made in its place (its id "
                f"is {topic.id}, not {', '.join(sorted(self._known))}): what was claimed is not in it. Stop all "
                "workers and the api, and put the last backup back with `xferq restore FILE`; without one, see "
                "docs/runbook.md, `A lost topic`"
            )

    async def renew(self) -> None:
        """Note what is known once more, before Kafka forgets it; not where two are, as `accept` was cut off then."""
        if len(self._known) == 1:
            await self._remember(*self._known)

    async def accept(self) -> None:
        """Take the topic as it is now for the right one, whatever was used so far."""
        self._known = frozenset([await self._present()])
        await self.renew()

    async def _present(self) -> str:
        topic = await find_topic(self._kafka, self._name, looks_s=SURE_LOOKS_S)
        if topic is None:
            raise Unavailable(f"topic {self._name} is not there")
        return topic.id

    async def _remembered(self) -> frozenset[str]:
        found: set[str] = set()
        for topic in self._topics:
            request = OffsetFetch(self._group, topic, [0], stable=False)
            answer = await self._ask(request, describing(self._group), lambda answer: answer.error_code)
            found |= {id for _, places, _ in answer.topics for _, offset, _, id, *_ in places if offset >= 0 and id}
        return frozenset(found)

    async def _remember(self, id: str) -> None:
        places = [(topic, [(0, 0, id)]) for topic in self._topics]
        request = OffsetCommitRequest(self._group, _NO_GENERATION, "", _KEEP_MS, places)
        await self._ask(request, reading(self._group), _least_wrong)

    async def _ask(self, request: Any, needs: str, code_of: Callable[[Any], int]) -> Any:
        """The group's coordinator's answer, as soon as there is one who is ready."""
        with translating(f"looking up which topic {self._name} was (group {self._group})", needs):
            async with asyncio.timeout(self._timeout_s):
                client = AIOKafkaClient(**self._kafka.connection.client("ledger-id"))
                try:
                    await client.bootstrap()
                    while True:
                        answer = await client.send(await coordinator(client, self._group), request)
                        error = aio.for_code(code_of(answer))
                        if error is aio.NoError:
                            return answer
                        if not error.retriable:
                            raise error
                        await asyncio.sleep(_RETRY_S)
                finally:
                    await client.close()


def _least_wrong(answer: Any) -> int:
    """What came of a commit: a topic that is missing just now is nothing as long as another one is there."""
    codes = {code for _, partitions in answer.topics for _, code in partitions}
    missing = {aio.UnknownTopicOrPartitionError.errno} if 0 in codes else set()
    worst: int = max(codes - missing)
    return worst
