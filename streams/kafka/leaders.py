"""Who leads a topic's partitions: all brokers are asked, and the highest leader epoch is believed.

A broker that is cut off from the controller tells of leaders what it knew at the cut, and answers for what it leads no
more. aiokafka asks any one broker, at random, so it may follow that one for as long as its metadata is good
(`metadata_max_age_ms`). Here it asks again until it has the answer that all brokers together give.

Only as it begins: later it may be told something old again; then the caller that misses a record begins anew.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient

from streams.errors import Unavailable
from streams.kafka.metadata import Led, Told, ask_all

_ANSWER_S = 1.0
"""How long a broker may take to answer; who does not is passed over."""
_AGREE_S = 2.0


async def follow_latest(client: AIOKafkaClient, topic: str) -> None:
    """Let the client know the latest leaders of the topic; what can't be had in a few seconds is left as it is."""
    try:
        async with asyncio.timeout(_AGREE_S):
            await client.add_topic(topic)
            told, _ = await ask_all(client, [topic], _ANSWER_S)
            latest = highest_epochs(topic, told)
            while not _agrees(client, topic, latest):
                await client.force_metadata_update()
    except TimeoutError:
        return


def _agrees(client: AIOKafkaClient, topic: str, latest: Mapping[int, Led]) -> bool:
    known = {p: client.cluster.leader_for_partition(TopicPartition(topic, p)) for p in latest}
    return all(led.leader in (known[p], -1) for p, led in latest.items())


def highest_epochs(topic: str, told: Iterable[Told]) -> dict[int, Led]:
    """Each partition as it is in the highest epoch that any of them tells; it may have no leader."""
    found: dict[int, Led] = {}
    for one in told:
        for partition, led in one.partitions.get(topic, {}).items():
            if partition not in found or led.epoch > found[partition].epoch:
                found[partition] = led
    return found


def require_latest(
    doing: str, answered: Mapping[int, int], leaders: Mapping[int, Led], silent: Collection[int]
) -> None:
    """See that no broker has answered for a partition that another one leads by now, in words for what was being done.

    Args:
        answered: the leader epoch of the broker that has answered, by partition.
        leaders: what all brokers together tell, see `highest_epochs`.
        silent: the brokers that have told nothing.

    Raises:
        Unavailable: a broker has, or a silent one may lead it.
    """
    for partition, epoch in answered.items():
        led = leaders.get(partition)
        if led is None or set(silent).intersection(led.replicas):
            raise Unavailable(f"{doing}: brokers {sorted(silent)} don't say who leads partition {partition}")
        if epoch < led.epoch:
            why = f"a leader that leads no more has answered (epoch {epoch}, now {led.epoch})"
            raise Unavailable(f"{doing}: partition {partition}: {why}")
