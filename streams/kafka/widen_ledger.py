"""The ledger of an earlier version gets the partitions that it lacks."""

import asyncio

from confluent_kafka.admin import NewPartitions

from streams.domain.ledger_partitions import ledger_width, partition_of_record
from streams.errors import Misconfigured
from streams.kafka.connection import Connection
from streams.kafka.contents import read_contents
from streams.kafka.groups import Groups
from streams.kafka.topics import Topics
from streams.settings.settings import Settings


async def widen_ledger(connection: Connection, settings: Settings) -> bool:
    """Add them, if that is all it lacks and no worker is left; whether that was done.

    A worker of the earlier version would not see how far drains are, and would drain again. From then on, none starts.

    Raises:
        Misconfigured: its records don't lie where the setting puts them: that was another one, say half of it.
        Refused: Kafka does not let us.
        Unavailable: it may have been done.
    """
    topics = Topics(connection)
    name, width = settings.ledger_topic, ledger_width(settings.ledger_partitions)
    found = await topics.describe(name)
    if found is None or found.partitions != settings.ledger_partitions:
        return False
    if await Groups(connection).members(settings.worker_group):
        return False
    await asyncio.to_thread(_require_in_place, connection, settings)
    timeout_s = settings.request_timeout_ms / 1000
    with connection.asking(f"adding partitions to topic {name}", f"Alter on topic {name}"):
        futures = connection.admin.create_partitions([NewPartitions(name, width)], operation_timeout=timeout_s)
        await asyncio.wrap_future(futures[name])
    await topics.is_shown(name, width)
    return True


def _require_in_place(connection: Connection, settings: Settings) -> None:
    """See that it is one of an earlier version, and no wider one with a setting that is wrong. Blocks."""
    name, count = settings.ledger_topic, settings.ledger_partitions
    for record in read_contents(connection, {name: {}})[name]:
        key = record.key or b""
        known = record.value is not None and not key.startswith(b"barrier/")
        if known and partition_of_record(key, record.value or b"", count) != record.partition:
            raise Misconfigured(
                f"the records of topic {name} don't lie where XFERQ_LEDGER_PARTITIONS, which is {count}, puts them: "
                f"the setting has been another one, perhaps {count // 2}. It must never change"
            )
