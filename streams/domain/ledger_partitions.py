"""Where in the ledger's topic a record lies; `count` is XFERQ_LEDGER_PARTITIONS.

All that belongs to one queue lies in one of the first `count` partitions, by a hash that never changes; but for the
progress of its drains. That has as many partitions of its own, behind those: a drain's transaction that is left open
holds up nothing but drains.
"""

import json
import zlib
from typing import Any

from streams.domain.topic import topic_of


def ledger_width(count: int) -> int:
    """How many partitions the topic has."""
    return 2 * count


def partition_of(name: str, count: int) -> int:
    """The partition for a queue's topic, or for an id."""
    return zlib.crc32(name.encode()) % count


def progress_partition(topic: str, partition: int, count: int) -> int:
    """The partition for the progress of drains of one queue partition."""
    return count + zlib.crc32(f"{topic}/{partition}".encode()) % count


def partition_of_record(key: bytes, value: bytes, count: int) -> int:
    """The partition for a record: by the queue's topic, or the id; a command lies with its queue, if it has any."""
    kind, _, rest = key.decode(errors="replace").partition("/")
    if kind == "drained":
        topic, partition, _ = rest.split("/")
        return progress_partition(topic, int(partition), count)
    if kind not in ("command", "outcome", "control"):
        return partition_of(rest.partition("/")[0], count)
    try:
        queue: Any = json.loads(value).get("queue_name")
        return partition_of(topic_of(queue) if isinstance(queue, str) and queue else rest, count)
    except (ValueError, AttributeError):
        return partition_of(rest, count)


def wrong_width(topic: str, found: int, count: int) -> str:
    """What to say of a ledger that has `found` partitions, not as many as it must."""
    wrong = f"topic {topic} has {found} partitions, but XFERQ_LEDGER_PARTITIONS is {count}: it must have twice as many"
    if found != count:
        return wrong
    return (
        f"{wrong}. If the setting is what it always was, the topic is one of an earlier version: stop all workers, "
        'then run `xferq topics` (docs/runbook.md, "Upgrade and roll back")'
    )
