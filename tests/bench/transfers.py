"""xferq alone: a transfer of very many queues, its cancel, and what another queue's cancel in the middle waits for."""

import asyncio
import time
from typing import Any

import confluent_kafka
import orjson

from streams.domain.command import CancelCommand, StartCommand
from streams.domain.topic import topic_of
from streams.domain.transitions import ENDED
from streams.kafka.topics import QUEUE_CONFIG, Topics
from tests.bench.contenders.contender import REASON
from tests.bench.world import Process, World

_EACH = 2
_AT_ONCE = 500
_Command = StartCommand | CancelCommand


async def transfers(bootstrap: str, queues: int) -> dict[str, Any]:
    """So many queues with two messages each into one xfer queue, and back; one worker.

    Seconds from the command to its end, the worker's processor time and memory, and milliseconds from another queue's
    cancel, halfway through, to its claim: once in the transfer, once in the cancel.
    """
    async with World(bootstrap, queue_partitions=1, partitions=1).opened() as world:
        target = f"http://to.{world.name}.invalid/"
        xfer_queue = f"{target}.xfer.kumomta.internal"
        names = [f"t{number}@{world.name}.example" for number in range(queues)]
        world.made += [*names, xfer_queue]
        topics = Topics(world.cluster.connection)
        for start in range(0, queues, _AT_ONCE):
            some = [topic_of(name) for name in names[start : start + _AT_ONCE]]
            await topics.create(dict.fromkeys(some, 1), QUEUE_CONFIG, 1)
        while len(await world.cluster.topics()) < queues:
            await asyncio.sleep(0.5)
        await asyncio.to_thread(_fill, bootstrap, names)
        await world.filled(4, queues=1)
        with world.worker() as worker:
            await world.cancel("warm-up-of-another-queue", queue=world.other)
            found: dict[str, Any] = {"queues": queues, "memory_before_mb": worker.peak_memory_mb()}
            start = StartCommand(id="start", target=target, domain=f"{world.name}.example", reason=REASON)
            found["transfer"] = await _measured(world, worker, start, queues)
            await world.filled(4, queues=1)
            cancel = CancelCommand(id="cancel", queue_name=xfer_queue, reason=REASON)
            found["cancel"] = await _measured(world, worker, cancel, queues)
            found["memory_mb"] = worker.peak_memory_mb()
        return found


async def _measured(
    world: World, worker: Process, command: StartCommand | CancelCommand, queues: int
) -> dict[str, Any]:
    """One command to its end, with another queue's cancel in the middle of it."""
    cpu_s, began = worker.cpu_s(), time.perf_counter()
    await _publish(world, command)
    # In the middle of its claims, or of its drain where it is a cancel, whose claim is one.
    while (status := world.ledger.status(command.id)) is None or status.restored < queues * _EACH // 10:
        await asyncio.sleep(0.002)
    other = CancelCommand(id=f"other-{command.id}", queue_name=world.queue, reason=REASON)
    asked = time.perf_counter()
    await _publish(world, other)
    while (status := world.ledger.status(other.id)) is None or status.claimed_at is None:
        await asyncio.sleep(0.001)
    claimed_ms = (time.perf_counter() - asked) * 1000
    while (status := world.ledger.status(command.id)) is None or status.state not in ENDED:
        await asyncio.sleep(0.01)
    if status.restored != queues * _EACH:
        raise SystemExit(f"{status.restored} of {queues * _EACH} messages were moved: {status.detail}")
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "cpu_s": worker.cpu_s() - cpu_s, "other_claimed_ms": claimed_ms}


async def _publish(world: World, command: _Command) -> None:
    await world.cluster.publish(world.settings.commands_topic, [(command.queue.encode(), command.to_bytes())])


def _fill(bootstrap: str, names: list[str]) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "linger.ms": 50})
    for name in names:
        fields = {"sender": "a@example.com", "recipient": f"someone@{name.partition('@')[2]}", "meta": {"queue": name}}
        others = {"num_attempts": 0, "created": "2026-11-20T10:00:00Z", "due": None, "schedule": None}
        for number in range(_EACH):
            headers = [("envelope", orjson.dumps(fields | others))]
            producer.produce(topic_of(name), b"Subject: x\r\n\r\nbody", b"%d" % number, 0, headers=headers)
            producer.poll(0)
    if left := producer.flush(120):
        raise SystemExit(f"{left} messages could not be written in time")
