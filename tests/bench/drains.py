"""The comparison: every contender drains the same messages, in turn, on one broker."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.bench.contenders.contender import Contender, Drained
from tests.bench.world import World

OURS = "xferq"
LIMITS = ("limit", "bare-limit")
_WARM_BROKER = 50_000
_MOST_ROUNDS = 3
_SPREAD = 0.1

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Shape:
    """What is drained: how many messages of which size, from where to where."""

    messages: int = 200_000
    size: int = 2048
    queues: int = 16
    partitions: int = 4
    compression: str = "none"
    transaction: int = 10_000
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
        """For JSON; with the messages of a transaction on average, where that was counted, and the µs of processor time
        that a message took."""
        sizes = [one.messages / one.transactions for one in self.drained if one.transactions]
        memory = [one.memory_mb for one in self.drained if one.memory_mb is not None]
        client = [one.measured.client_s / one.messages * 1e6 for one in self.drained]
        broker = [one.measured.broker_s / one.messages * 1e6 for one in self.drained]
        return {
            "remark": self.remark,
            "rates": self.rates,
            "transaction_messages": statistics.mean(sizes) if sizes else None,
            "memory_mb": max(memory, default=None),
            "client_us": statistics.median(client),
            "broker_us": statistics.median(broker),
        }


@dataclass(frozen=True, slots=True)
class Broker:
    """Where it is, and its process."""

    bootstrap: str
    pid: int | None = None


async def drain_once(broker: Broker, shape: Shape, contender: Contender, warm_up: int) -> Drained:
    """One drain of one contender, in a world of its own.

    Raises:
        SystemExit: it has not moved all messages.
    """
    world = World(
        broker.bootstrap,
        broker_pid=broker.pid,
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
    broker: Broker, shape: Shape, contenders: Sequence[Contender], *, rounds: int, warm_up: int, say: Say
) -> dict[str, Any]:
    """Rounds in which each contender has its turn, every time another one first; those that can't are left out.

    As many as asked for, and up to three times as many while the best contender's ratio spreads by more than a tenth.
    """
    skipped = {contender.name: why for contender in contenders if (why := contender.why_not())}
    able = [contender for contender in contenders if contender.name not in skipped]
    for name, why in skipped.items():
        say(f"  without {name}: {why}")
    for contender in able:
        contender.prepare()
    series = {contender.name: Series(contender.name, contender.remark) for contender in able}
    # Unmeasured: the first one would have a broker whose code is not compiled yet.
    await drain_once(broker, replace(shape, messages=min(shape.messages, _WARM_BROKER)), able[0], warm_up)
    for number in range(rounds * _MOST_ROUNDS):
        first = number % len(able)
        for contender in [*able[first:], *able[:first]]:
            drained = await drain_once(broker, shape, contender, warm_up)
            one = series[contender.name]
            one.drained.append(drained)
            one.rates.append(drained.messages / drained.measured.seconds)
            say(f"  round {number + 1}: {contender.name} {one.rates[-1]:,.0f} messages/s")
        spread = ratio_spread({name: one.rates for name, one in series.items()})
        if number + 1 >= rounds and spread < _SPREAD:
            break
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
        "ratio_spread": spread,
    }


def ratios(rates: dict[str, list[float]]) -> dict[str, float]:
    """Ours by theirs, for each of the others: medians of messages per second."""
    if OURS not in rates:
        return {}
    ours = statistics.median(rates[OURS])
    return {name: ours / statistics.median(theirs) for name, theirs in rates.items() if name != OURS}


def ratio_spread(rates: dict[str, list[float]]) -> float:
    """How far our ratio to the best contender differs between rounds, as a part of its median; 0 without either."""
    others = [name for name in rates if name not in (OURS, *LIMITS)]
    if OURS not in rates or not others:
        return 0.0
    best = max(others, key=lambda name: statistics.median(rates[name]))
    found = [ours / theirs for ours, theirs in zip(rates[OURS], rates[best], strict=True)]
    return (max(found) - min(found)) / statistics.median(found)
