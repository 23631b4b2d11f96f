"""The ledger of an earlier version gets the partitions that it lacks."""

import asyncio
import time

from confluent_kafka.admin import NewPartitions

from streams.kafka.connection import Connection
from streams.kafka.groups import Groups
from streams.kafka.topics import Topics
from streams.ledger_partitions import ledger_width
from streams.settings import Settings

_VISIBLE_S = 15.0


async def widen_ledger(connection: Connection, settings: Settings) -> bool:
    """Add them, if that is all it lacks and no worker is left; whether that was done.

    A worker of the earlier version would not see how far drains are, and would drain again. From then on, none starts.

    Raises:
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
    timeout_s = settings.request_timeout_ms / 1000
    with connection.asking(f"adding partitions to topic {name}", f"Alter on topic {name}"):
        futures = connection.admin.create_partitions([NewPartitions(name, width)], operation_timeout=timeout_s)
        await asyncio.wrap_future(futures[name])
    deadline = time.monotonic() + _VISIBLE_S
    while (found := await topics.describe(name)) is not None and found.partitions != width:
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.02)
    return True
