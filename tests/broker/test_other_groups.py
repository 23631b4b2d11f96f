"""Who takes messages out of queues otherwise than a queue's own consumer group does, on the real broker."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Consumer

from streams.domain.topic import topic_of
from streams.errors import Refused
from streams.kafka.cluster import Cluster
from streams.kafka.wire.leave_group import LeaveGroup
from streams.telemetry.metrics import FOREIGN_GROUPS, UNSAFE_QUEUES
from streams.worker.queue_watch import QueueWatch
from tests.broker.other_groups import share_member, streams_member
from tests.broker.scene import WAIT_S, wait_until
from tests.broker.test_startup import configure
from tests.broker.world import World, XferQueue
from tests.support.names import own_name


@pytest.fixture
async def kafka(world: World) -> AsyncIterator[Cluster]:
    async with Cluster(world.settings) as kafka:
        yield kafka


# ---- of another kind, under the queue's group


def is_refused(queue: XferQueue, kind: str) -> None:
    """A cancel of it is refused, with the reason, and nothing has been claimed."""
    status = queue.world.done(queue.cancel())
    assert status["state"] == "refused"
    assert f"{queue.group} is a {kind} group" in status["detail"]
    assert queue.world.claims(queue.topic) == []
    assert queue.log() == []


def test_a_cancel_of_what_a_share_group_takes_out_is_refused(queue: XferQueue) -> None:
    queue.put(*queue.messages(20))
    with share_member(queue.servers, queue.group, queue.topic):
        is_refused(queue, "share")
    is_refused(queue, "share")  # nor without members: what they had taken out must not be restored


async def test_a_cancel_of_what_a_streams_group_takes_out_is_refused(queue: XferQueue) -> None:
    queue.put(*queue.messages(20))
    async with streams_member(queue.servers, queue.group, queue.topic):
        is_refused(queue, "streams")


# ---- evictions


async def test_who_stays_a_member_was_not_evicted(
    queue: XferQueue, kafka: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker before 4.0 says of the members of such groups that it does not know them, as of those who have left."""
    consumer = Consumer({"bootstrap.servers": queue.servers, "group.id": queue.group, "group.protocol": "consumer"})
    consumer.subscribe([queue.topic])
    while not (members := await kafka.members(queue.group)):
        consumer.poll(0.1)
    client = await kafka.connection.raw()
    send = client.send

    async def knows_nobody(node: int, request: Any, **options: Any) -> Any:
        if not isinstance(request, LeaveGroup):
            return await send(node, request, **options)
        return SimpleNamespace(error_code=0, members=[(member, None, 25, {}) for member, *_ in request.fields[1]])

    monkeypatch.setattr(client, "send", knows_nobody)
    with pytest.raises(Refused, match="can't be evicted"):
        await kafka.evict(queue.group, members)
    await kafka.evict(queue.group, ["who-has-left"])
    consumer.close()


async def test_hundreds_are_evicted_in_one_request(
    queue: XferQueue, kafka: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = Consumer({"bootstrap.servers": queue.servers, "group.id": queue.group})
    consumer.subscribe([queue.topic])
    while not (members := await kafka.members(queue.group)):
        consumer.poll(0.1)
    client = await kafka.connection.raw()
    send = client.send
    sent: list[object] = []

    async def counting(node: int, request: Any, **options: Any) -> Any:
        if isinstance(request, LeaveGroup):
            sent.append(request)
        return await send(node, request, **options)

    monkeypatch.setattr(client, "send", counting)
    await kafka.evict(queue.group, [*members, *(f"left-{number}" for number in range(500))])
    assert len(sent) == 1
    assert not members & await kafka.members(queue.group)
    consumer.close()


# ---- beside the queue's group


@pytest.mark.parametrize("kind", ["share", "streams", "classic", "consumer"])
async def test_other_groups_on_a_queue_s_topic_are_said(
    queue: XferQueue, kafka: Cluster, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    group = f"stranger-{uuid.uuid4().hex[:8]}"
    watch = QueueWatch(kafka, kafka.settings, lambda topic: topic == queue.topic)
    own = Consumer({"bootstrap.servers": queue.servers, "group.id": queue.group})
    own.subscribe([queue.topic])
    while not await kafka.members(queue.group):
        own.poll(0.1)
    assert await watch.look_at_groups() == {}

    async def is_seen() -> None:
        while not (found := await watch.look_at_groups()):  # a classic one tells while it does not rebalance
            if consumer is not None:
                consumer.poll(0.1)
        assert found == {group: f"{kind}: {queue.topic}"}

    consumer = None
    if kind == "share":
        with share_member(queue.servers, group, queue.topic):
            await is_seen()
    elif kind == "streams":
        async with streams_member(queue.servers, group, queue.topic):
            await is_seen()
    else:
        protocol = {"bootstrap.servers": queue.servers, "group.id": group, "group.protocol": kind}
        consumer = Consumer(protocol)
        consumer.subscribe([f"^{queue.topic}$"])  # a pattern: the broker alone knows what it comes to
        await is_seen()
    assert FOREIGN_GROUPS.labels(kind=kind)._value.get() == 1
    await watch.look_at_groups()
    said = [record.getMessage() for record in caplog.records if "worker.foreign_groups" in record.getMessage()]
    assert len(said) == 1  # not with every look
    assert group in said[0]
    if consumer is not None:
        consumer.close()
    own.close()


# ---- settings


# Others run `xferq topics` on the same Kafka, which puts all queues' settings right.
@pytest.mark.alone
async def test_what_may_lose_messages_or_keep_them_out_is_named_once_and_queues_made_later_as_well(
    world: World, kafka: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    run = own_name()
    watch = QueueWatch(kafka, kafka.settings, lambda topic: topic.startswith(f"queue.{run}"))
    good = f"queue.{run}.good"
    assert await kafka.create([good]) == {}
    wait_until(lambda: good in world.scene.admin.list_topics(timeout=10).topics)
    assert await watch.look_at_settings() == {}
    there = await kafka._topics.config(good)
    wrong = {
        "message.timestamp.before.max.ms": "604800000",
        "message.timestamp.after.max.ms": "3600000",
        "unclean.leader.election.enable": "true",
    }
    for number, (key, value) in enumerate(wrong.items()):
        topic = f"queue.{run}.bad{number}"
        config = {name: there[name] for name in wrong} | {key: value}
        world.create(topic, 1, **{name.replace(".", "_"): text for name, text in config.items()})
        unsafe = await watch.look_at_settings()
        assert len(unsafe) == number + 1
        assert unsafe[topic].startswith(f"{key} is {value}, should be ")
        assert ";" not in unsafe[topic]
    assert UNSAFE_QUEUES._value.get() == 3
    await watch.look_at_settings()
    said = [record.getMessage() for record in caplog.records if "worker.unsafe_queues" in record.getMessage()]
    assert [f"queue.{run}.bad{number}" in line for number, line in enumerate(said)] == [True] * 3
    for topic in (good, *(f"queue.{run}.bad{number}" for number in range(len(wrong)))):
        world.scene.delete(topic)


# Others run `xferq topics` on the same Kafka, which puts all queues' settings right.
@pytest.mark.alone
async def test_other_shares_are_looked_at_at_once(world: World, kafka: Cluster) -> None:
    queue = world.queue()  # as a mail platform may make it: with what the brokers have for all topics
    while queue.topic not in await kafka.topics() or not await kafka._topics.configs([queue.topic]):
        await asyncio.sleep(0.05)  # known to one client, it may not be to another for a moment
    shares: set[int] = set()
    seen: list[dict[str, str]] = []

    class Watch(QueueWatch):
        async def look_at_settings(self) -> dict[str, str]:
            seen.append(await super().look_at_settings())
            return seen[-1]

    running = asyncio.create_task(
        Watch(kafka, kafka.settings, lambda topic: bool(shares) and topic == queue.topic).run(lambda: frozenset(shares))
    )
    await eventually(lambda: len(seen) == 1)
    shares.add(1)
    await eventually(lambda: len(seen) == 2)
    running.cancel()
    assert seen[0] == {}
    assert list(seen[1]) == [queue.topic]


async def eventually(is_so: Callable[[], bool]) -> None:
    """Wait for something of this event loop's."""
    async with asyncio.timeout(WAIT_S):
        while not is_so():
            await asyncio.sleep(0.05)


async def test_a_cluster_that_lets_nobody_set_the_limits_gets_queues_all_the_same(
    world: World, kafka: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.kafka.cluster.QUEUE_CONFIG", {"message.timestamp.before.max.ms": "not permitted"})
    name = f"queue.{own_name()}"
    assert await kafka.create([name]) == {}
    wait_until(lambda: name in world.scene.admin.list_topics(timeout=10).topics)
    assert (await kafka._topics.config(name))["retention.ms"] == "-1"
    world.scene.delete(name)


# ---- timestamps


# Others run `xferq topics` on the same Kafka, which puts all queues' settings right.
@pytest.mark.alone
@pytest.mark.parametrize("limited", ["destination", "both"])
def test_messages_that_lie_there_for_longer_than_topics_take_in(world: World, limited: str) -> None:
    queue = world.queue(partitions=1)
    limit = {"message_timestamp_before_max_ms": str(7 * 86_400_000)}
    world.create(topic_of(queue.domain), 1, **limit)
    now = int(time.time() * 1000)
    old, *fresh = queue.message(timestamp=now - 8 * 86_400_000), *(queue.message(timestamp=now) for _ in range(5))
    queue.put(fresh[0], old, *fresh[1:])
    if limited == "both":
        configure(world.scene, queue.topic, "message.timestamp.before.max.ms", str(7 * 86_400_000))
    status = queue.cancelled()
    assert (status["restored"], status["returned_reasons"]) == (5, {"timestamp": 1})
    assert {message.key for message in queue.restored()} == {message.key for message in fresh}
    (back,) = queue.remaining()
    assert (back.key, back.value, back.headers) == (old.key, old.value, old.headers)
    if limited == "both":
        assert old.timestamp < now - 7 * 86_400_000 <= back.timestamp < now
    else:
        assert back.timestamp == old.timestamp
