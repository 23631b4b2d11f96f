"""The comparison: every contender drains the same messages, in turn, on one broker."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.contenders.contender import Contender, Drained
from tests.bench.world import World

OURS = "xferq"
LIMIT = "limit"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Shape:
    """What is drained: how many messages of which size, from where to where."""

    messages: int = 200_000
    size: int = 2048
    queues: int = 16
    partitions: int = 4
    compression: str = "none"
    transaction: int = 1_000
    metadata: int = 0
    processes: int | None = None
    """Of a worker; None: one per core."""
    new_queues: bool = False
    """Whether the destinations are made by the drain."""

    @property
    def queue_partitions(self) -> int:
        """Of each destination: one where there are very many, as a broker of one node has its limits."""
        return 4 if self.queues <= 100 else 1


@dataclass(slots=True)
class Series:
    """One contender's rounds, in messages per second."""

    name: str
    remark: str = ""
    rates: list[float] = field(default_factory=list)
    drained: list[Drained] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; with the messages that a transaction had on average, where that was counted."""
        sizes = [one.messages / one.transactions for one in self.drained if one.transactions]
        memory = [one.memory_mb for one in self.drained if one.memory_mb is not None]
        return {
            "remark": self.remark,
            "rates": self.rates,
            "transaction_messages": statistics.mean(sizes) if sizes else None,
            "memory_mb": max(memory, default=None),
        }


async def drain_once(bootstrap: str, shape: Shape, contender: Contender, warm_up: int) -> Drained:
    """One drain of one contender, in a world of its own.

    Raises:
        SystemExit: it has not moved all messages.
    """
    world = World(
        bootstrap,
        partitions=shape.partitions,
        transaction=shape.transaction,
        queue_partitions=shape.queue_partitions,
        compression=shape.compression,
        **({} if shape.processes is None else {"worker_processes": shape.processes}),
    )
    async with world.opened(queues=0 if shape.new_queues else shape.queues, warm_up=warm_up):
        await world.filled(
            shape.messages,
            size=shape.size,
            queues=shape.queues,
            compression=shape.compression,
            metadata=shape.metadata,
        )
        drained = await contender.drain(world)
    if drained.messages != shape.messages:
        raise SystemExit(f"{contender.name} has moved {drained.messages} of {shape.messages} messages")
    return drained


async def compare(
    bootstrap: str, shape: Shape, contenders: Sequence[Contender], *, rounds: int, warm_up: int, say: Say
) -> dict[str, Any]:
    """Rounds in which each contender has its turn, every time another one first; those that can't are left out."""
    skipped = {contender.name: why for contender in contenders if (why := contender.why_not())}
    able = [contender for contender in contenders if contender.name not in skipped]
    for name, why in skipped.items():
        say(f"  without {name}: {why}")
    for contender in able:
        contender.prepare()
    series = {contender.name: Series(contender.name, contender.remark) for contender in able}
    for number in range(rounds):
        first = number * len(able) // rounds
        for contender in [*able[first:], *able[:first]]:
            drained = await drain_once(bootstrap, shape, contender, warm_up)
            one = series[contender.name]
            one.drained.append(drained)
            one.rates.append(drained.messages / drained.seconds)
            say(f"  round {number + 1}: {contender.name} {one.rates[-1]:,.0f} messages/s")
    return {
        "messages": shape.messages,
        "size": shape.size,
        "queues": shape.queues,
        "partitions": shape.partitions,
        "compression": shape.compression,
        "transaction": shape.transaction,
        "skipped": skipped,
        "contenders": {name: one.to_dict() for name, one in series.items()},
        "ratios": ratios({name: one.rates for name, one in series.items()}),
    }


def ratios(rates: dict[str, list[float]]) -> dict[str, float]:
    """Ours by theirs, for each of the others: medians of messages per second."""
    if OURS not in rates:
        return {}
    ours = statistics.median(rates[OURS])
    return {name: ours / statistics.median(theirs) for name, theirs in rates.items() if name != OURS}
