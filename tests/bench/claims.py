"""xferq alone: how long a claim takes, at any depth, and a whole cancel of hardly anything."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx

from streams.broker.ports import free_ports
from streams.domain.status import Status
from streams.domain.topic import topic_of
from streams.domain.transitions import ENDED
from streams.kafka.topics import QUEUE_CONFIG, Topics
from tests.bench.contenders.contender import REASON
from tests.bench.load import fill
from tests.bench.world import World, answers

_AT_ONCE = 100
_REST_S = 1.0
"""Between two claims: by then what follows a drain is over as well, such as freeing space."""

Post = Callable[[str], Awaitable[str]]


async def claims(bootstrap: str, depth: int, repeats: int, *, partitions: int = 4) -> dict[str, Any]:
    """Milliseconds from HTTP 200 to the claim committed, with `depth` messages in a queue; each in a queue of its own.

    The messages of one claim are drained before the next: what is measured is a claim, not the work beside it.
    """
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(World(bootstrap, partitions=partitions).opened(queues=16))
        worker, post = await _served(stack, world)
        queues = await _made(world, repeats, partitions)
        await asyncio.to_thread(_filled, world, queues, depth, partitions)
        times = []
        for queue in queues:
            await asyncio.sleep(_REST_S)
            times.append(await _claimed_ms(world, post, queue))
            await world.all_done()
        return {
            "name": f"{depth:,} messages in {partitions} partitions",
            "ms": times,
            "worker_memory_mb": worker.peak_memory_mb(),
        }


async def at_once(bootstrap: str) -> dict[str, Any]:
    """Cancels of many queues posted side by side: milliseconds from each answer to its claim."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(World(bootstrap).opened(queues=1))
        worker, post = await _served(stack, world)
        queues = await _made(world, _AT_ONCE, 1)
        await asyncio.to_thread(_filled, world, queues, 100, 1)
        times = await asyncio.gather(*(_claimed_ms(world, post, queue) for queue in queues))
        await world.all_done()
        return {"name": f"{_AT_ONCE} queues at once", "ms": times, "worker_memory_mb": worker.peak_memory_mb()}


async def small(bootstrap: str, messages: int, repeats: int) -> dict[str, Any]:
    """Milliseconds from the request to the end of all, with none or hardly any message in the queue."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(World(bootstrap).opened(queues=1))
        worker, post = await _served(stack, world)
        queues = await _made(world, repeats, world.partitions)
        if messages:
            await asyncio.to_thread(_filled, world, queues, messages, world.partitions)
        times = []
        for queue in queues:
            began = time.perf_counter()
            id = await post(queue)
            await _status(world, id, lambda status: status.state in ENDED)
            times.append((time.perf_counter() - began) * 1000)
        name = "empty queue, request to done" if not messages else f"{messages} message, request to done"
        return {"name": name, "ms": times, "worker_memory_mb": worker.peak_memory_mb()}


async def new_queues(bootstrap: str, queues: int, messages: int) -> dict[str, Any]:
    """Seconds of a first drain into queues that don't exist yet, and of a second one; a partition for each.

    And of making as many topics with Kafka's own admin client, which no drain can be faster than.
    """
    async with World(bootstrap, queue_partitions=1).opened() as world:
        topics = Topics(world.cluster.connection)
        names = [f"queue.{world.name}.alone.{number}" for number in range(queues)]
        began = time.perf_counter()
        await topics.create(dict.fromkeys(names, 1), QUEUE_CONFIG, 1)
        alone = time.perf_counter() - began
        await topics.delete(names)
        with world.worker():
            await world.cancel("warm-up-of-another-queue", queue=world.other)
            seconds = []
            for id in ("first", "second"):
                await world.filled(messages, queues=queues)
                seconds.append((await world.cancel(id))[1].seconds)
    return {
        "queues": queues,
        "messages": messages,
        "first_s": seconds[0],
        "second_s": seconds[1],
        "topics_alone_s": alone,
    }


async def _served(stack: AsyncExitStack, world: World) -> tuple[Any, Post]:
    """A worker and an api that are up and warm, and how to post a cancel to it: the command's id."""
    (port,) = free_ports(1)
    worker = stack.enter_context(world.worker())
    url = stack.enter_context(world.api(port))
    client = await stack.enter_async_context(httpx.AsyncClient(limits=httpx.Limits(max_connections=_AT_ONCE)))

    async def post(queue: str) -> str:
        body = {"queue_name": queue, "reason": REASON}
        answer = await client.post(f"{url}/api/admin/xfer/cancel/v1", json=body, timeout=30)
        answer.raise_for_status()
        return str(answer.headers["X-Command-Id"])

    await world.cancel("warm-up-of-another-queue", queue=world.other)
    await world.shared_out()
    await answers(url)
    (warm,) = await _made(world, 1, 1)
    await _status(world, await post(warm), lambda status: status.state in ENDED)
    return worker, post


async def _made(world: World, count: int, partitions: int) -> list[str]:
    """The names of so many xfer queues of their own, whose topics are there."""
    queues = [
        f"http://{world.name}-{len(world.made) + number}.invalid/.xfer.kumomta.internal" for number in range(count)
    ]
    world.made += queues
    await Topics(world.cluster.connection).create(dict.fromkeys(map(topic_of, queues), partitions), QUEUE_CONFIG, 1)
    for queue in queues:
        while await world.cluster.topic(topic_of(queue)) is None:
            await asyncio.sleep(0.05)
    return queues


def _filled(world: World, queues: list[str], messages: int, partitions: int) -> None:
    for queue in queues:
        fill(
            world.bootstrap,
            topic_of(queue),
            messages=messages,
            size=256,
            partitions=partitions,
            queues=1,
            family=world.name,
            xfer_queue=queue,
        )


async def _claimed_ms(world: World, post: Post, queue: str) -> float:
    """Cancel; milliseconds from the answer to the claim being there for everybody to read."""
    id = await post(queue)
    answered = time.perf_counter()
    await _status(world, id, lambda status: status.claimed_at is not None)
    return (time.perf_counter() - answered) * 1000


async def _status(world: World, id: str, reached: Callable[[Status], bool]) -> None:
    while (status := world.ledger.status(id)) is None or not reached(status):
        await asyncio.sleep(0.001)
