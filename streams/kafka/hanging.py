"""xferq's own transactions that no process ends: found before its next writes would commit them.

Kafka leaves a transaction's marker out in a partition that has no leader just then (KAFKA-20734):

1. One of xferq's transactions is aborted. Kafka leaves its marker out in some partition, and takes it for complete.
2. The next producer of the same transactional id has the same producer id, with a higher epoch.
3. It writes to that partition, and commits. The marker ends all that this producer id has open there.
4. What was to be aborted in 1 is committed, and is there twice.

So the partition's leader is asked before 3. Kafka lets a producer have the transactional id when every marker of the
transaction before is written or left out: no process ends what is open then.
"""

import asyncio
import time
from collections.abc import Collection, Sequence

from aiokafka import errors as aio
from aiokafka import structs
from aiokafka.client import AIOKafkaClient

from streams.errors import Rejected, Unavailable
from streams.kafka.translate import not_permitted, translated
from streams.kafka.wire.describe_producers import open_transactions
from streams.records import TopicPartition

_LOOKS_S = 1.0
"""How long an open transaction is looked at: a leader that was replaced just now may not know of its end."""
_PAUSE_S = 0.05
_MOST_PAUSE_S = 0.5
_MOST_SHOWN = 3


async def require_none_hangs(
    client: AIOKafkaClient, producer_id: int, partitions: Collection[TopicPartition], timeout_s: float
) -> None:
    """See that a producer that has not written to these partitions yet has no transaction open there.

    One request to each leader, if all is well. The client has to know the topics.

    Raises:
        Unavailable: it has; or not all leaders have said so in time.
        Rejected: Kafka does not permit to ask about some of them.
    """
    began = time.monotonic()
    pause_s = _PAUSE_S
    left: dict[TopicPartition, int | aio.KafkaError] = dict.fromkeys(partitions, aio.RequestTimedOutError())
    try:
        async with asyncio.timeout(timeout_s):
            while left := await _ask(client, producer_id, left):
                hanging = {where: answer for where, answer in left.items() if isinstance(answer, int)}
                if hanging and time.monotonic() - began >= _LOOKS_S:
                    raise Unavailable(_hint(hanging), {topic for topic, _ in hanging})
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _MOST_PAUSE_S)
                await client.force_metadata_update()
    except TimeoutError:
        answer = next(iter(left.values()))
        error = answer if isinstance(answer, aio.KafkaError) else aio.RequestTimedOutError()
        where = named([f"{topic}/{partition}" for topic, partition in left])
        doing = f"looking for open transactions in {where} (has it a leader?)"
        raise translated(error, doing, topics={topic for topic, _ in left}) from None


async def _ask(
    client: AIOKafkaClient, producer_id: int, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, int | aio.KafkaError]:
    """Where a transaction is open, by its first offset, or why that is not known; the others are left out."""
    by_node: dict[int, dict[str, list[int]]] = {}
    found: dict[TopicPartition, int | aio.KafkaError | None] = dict.fromkeys(partitions, aio.LeaderNotAvailableError())
    for topic, partition in partitions:
        node = client.cluster.leader_for_partition(structs.TopicPartition(topic, partition))
        if node is not None and node >= 0:
            by_node.setdefault(node, {}).setdefault(topic, []).append(partition)

    async def ask(node: int, wanted: dict[str, list[int]]) -> None:
        try:
            found.update(await open_transactions(client, node, producer_id, wanted))
        except aio.KafkaError as error:
            found.update(((topic, number), error) for topic, numbers in wanted.items() for number in numbers)

    await asyncio.gather(*(ask(node, wanted) for node, wanted in by_node.items()))
    if denied := [where for where, answer in found.items() if isinstance(answer, aio.TopicAuthorizationFailedError)]:
        raise Rejected({(topic, number): not_permitted(f"Read on topic {topic}") for topic, number in denied})
    return {where: answer for where, answer in found.items() if answer is not None}


def _hint(hanging: dict[TopicPartition, int]) -> str:
    where = [f"{topic}/{partition} from offset {start}" for (topic, partition), start in sorted(hanging.items())]
    return (
        "a transaction of xferq's own hangs and would be committed: end it with kafka-transactions.sh abort, once "
        f'docs/runbook.md, "A transaction hangs", has been read, in {named(where, _MOST_SHOWN)}'
    )


def named(texts: Sequence[str], most: int = 1) -> str:
    """The first ones, and how many more there are: `queue.a/0 and 3 more`."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more
