"""xferq's drain in other shapes, one thing changed at a time: sizes, destinations, partitions, depth, compression."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tests.bench.contenders.contender import Contender
from tests.bench.drains import Broker, Say, Shape, compare

# Of one shape at most; and at least so many messages, whatever their size.
_MOST_BYTES = 400 << 20
_FEWEST = 200

_SIZES = (256, 2048, 16 << 10, 64 << 10, 1_000_000)
"""The last one fits, with headers, what Kafka takes by default (max.message.bytes)."""
_QUEUES = (1, 16, 2_000, 10_000)
_PARTITIONS = (1, 4, 16)
_DEPTHS = (10_000, 1_000_000, 5_000_000)
_DEEP_SIZE = 256
"""Of the bodies there: five million of two kilobytes, moved once, would be thirty gigabytes."""
_TRANSACTIONS = (100, 1_000)
_PROCESSES = (1, 2, 4)
_METADATA = 4_096
_COMPRESSIONS = ("none", "lz4", "zstd")


def shapes(standard: Shape, *, quick: bool) -> Iterator[tuple[str, Shape]]:
    """What is measured, by name; the quick ones leave out what takes long to make."""
    yield "standard", standard
    for size in _SIZES:
        if size != standard.size:
            most = max(_FEWEST, _MOST_BYTES // size)
            yield f"{_bytes(size)} bodies", replace(standard, size=size, messages=min(standard.messages, most))
    for queues in _QUEUES:
        if queues != standard.queues and not (quick and queues > 100):
            yield f"{queues:,} queues", replace(standard, queues=queues)
    for partitions in _PARTITIONS:
        if partitions != standard.partitions:
            yield f"{partitions} source partitions", replace(standard, partitions=partitions)
    for depth in _DEPTHS:
        if not (quick and depth > 100_000):
            yield f"{depth:,} deep, {_bytes(_DEEP_SIZE)}", replace(standard, messages=depth, size=_DEEP_SIZE)
    for transaction in _TRANSACTIONS:
        yield f"{transaction:,} a transaction", replace(standard, transaction=transaction)
    yield f"{_METADATA:,} B of metadata", replace(standard, metadata=_METADATA)
    for processes in _PROCESSES:
        yield f"{processes} worker processes", replace(standard, processes=processes)
    if not quick:
        yield "500 new queues", replace(standard, queues=500, new_queues=True)
    for compression in _COMPRESSIONS:
        if compression != standard.compression:
            yield compression, replace(standard, compression=compression)


async def measure_shapes(
    broker: Broker,
    standard: Shape,
    contenders: Sequence[Contender],
    *,
    rounds: int,
    warm_up: int,
    quick: bool,
    say: Say,
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """The comparison for each shape, by the shape's name; where `only` is given, of those with one of its words."""
    found = {}
    for name, shape in shapes(standard, quick=quick):
        if only and not any(word in name for word in only):
            continue
        say(f"shape: {name} ({shape.messages:,} messages)")
        found[name] = await compare(broker, shape, contenders, rounds=rounds, warm_up=warm_up, say=say)
    return found


def _bytes(size: int) -> str:
    for unit, count in (("MB", 1_000_000), ("KB", 1 << 10)):
        if size >= count:
            return f"{size // count} {unit}"
    return f"{size} B"
