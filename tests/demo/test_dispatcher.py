"""The demo's dispatcher loses its membership in the middle of a batch, and gets it back, on a real broker."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from streams.broker import EmbeddedBroker
from streams.kafka.cluster import Cluster
from streams.kafka.dispatcher import Dispatcher
from streams.records import Record, Write
from streams.settings.settings import load_settings
from tests.support.names import given, own_name, remove_topics
from tests.support.patience import WAIT_S

MESSAGES = 10


@pytest.fixture
async def kafka(broker: EmbeddedBroker) -> AsyncIterator[Cluster]:
    settings = load_settings(bootstrap_servers=broker.bootstrap_servers, queue_partitions=1)
    async with Cluster(settings) as cluster:
        first = len(given)
        yield cluster
    remove_topics(broker.bootstrap_servers, *given[first:])


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not is_so():
            await asyncio.sleep(0.01)


async def filled(kafka: Cluster) -> str:
    """The name of a new topic with some messages in its only partition."""
    topic = f"queue.{own_name()}"
    assert await kafka.create([topic]) == {}
    producer = await kafka.producer(f"xferq.inject.{topic}")
    while not await producer.partitions([topic]):
        await asyncio.sleep(0.05)
    batch = producer.batch()
    for number in range(MESSAGES):
        batch.append(timestamp=None, key=b"%d" % number, value=b"", headers=[])
    await producer.transact([Write(topic, 0, batch)])
    await producer.close()
    return topic


async def test_what_was_polled_before_an_eviction_is_neither_sent_on_nor_committed(kafka: Cluster) -> None:
    topic = await filled(kafka)
    group = f"dispatch.{topic}"
    gate = asyncio.Event()

    async def send(record: Record) -> None:
        if record.offset >= 3:
            await gate.wait()

    dispatcher = Dispatcher(kafka.connection, topic, group, send, at_once=MESSAGES, commit_every=1)
    await dispatcher.join()
    dispatcher.work()
    try:
        await until(lambda: dispatcher.sent == 3)
        hold = await kafka.hold(group)
        assert hold is not None
        await until(lambda: len(dispatcher.lost_at) == 1)
        await hold.release()
        await until(lambda: len(dispatcher.assigned_at) == 2)
        gate.set()
        # Nothing was committed, so all of it comes again, and is sent and committed now.
        await until(lambda: sum(polled.committed_at is not None for polled in dispatcher.polled) == MESSAGES)
    finally:
        await dispatcher.stop()
    before, after = dispatcher.polled[:MESSAGES], dispatcher.polled[MESSAGES:]
    assert [polled.offset for polled in before if polled.sent_at is not None] == [0, 1, 2, 3]
    assert [polled.offset for polled in before if polled.committed_at is not None] == []
    assert [polled.offset for polled in after if polled.committed_at is not None] == list(range(MESSAGES))
    assert await kafka.committed(group, topic, [0]) == {0: MESSAGES}


async def test_a_dispatcher_that_is_stopped_leaves_its_group(kafka: Cluster) -> None:
    topic = await filled(kafka)
    group = f"dispatch.{topic}"

    async def send(record: Record) -> None:
        """At once."""

    dispatcher = Dispatcher(kafka.connection, topic, group, send, commit_every=1)
    await dispatcher.join()
    dispatcher.work()
    await until(lambda: dispatcher.sent == MESSAGES)
    await dispatcher.stop()
    assert await kafka.members(group) == set()
