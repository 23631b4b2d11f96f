"""Where in the ledger's topic a record lies; `count` is XFERQ_LEDGER_PARTITIONS.

All that belongs to one queue lies in one of the first `count` partitions, by a hash that never changes; but for the
progress of its drains. That has as many partitions of its own, behind those: a drain's transaction that is left open
holds up nobody but drains.
"""

import zlib


def ledger_width(count: int) -> int:
    """How many partitions the topic has."""
    return 2 * count


def partition_of(name: str, count: int) -> int:
    """The partition for a queue's topic, or for an id."""
    return zlib.crc32(name.encode()) % count


def progress_partition(topic: str, partition: int, count: int) -> int:
    """The partition for the progress of drains of one queue partition."""
    return count + zlib.crc32(f"{topic}/{partition}".encode()) % count


def wrong_width(topic: str, found: int, count: int) -> str:
    """What to say of a ledger that has `found` partitions, not as many as it must."""
    width = ledger_width(count)
    if found != count:
        return f"topic {topic} has {found} partitions, but XFERQ_LEDGER_PARTITIONS is {count}: it must have {width}"
    return (
        f"topic {topic} is one of an earlier version, with {found} partitions instead of {width}: stop all workers, "
        'then run `xferq topics` (docs/runbook.md, "Upgrade and roll back")'
    )
