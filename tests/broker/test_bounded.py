"""Bounded behaviour: no call waits for ever, whoever can't go on says so, and goes on by itself when it can."""

import asyncio
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import pytest
from confluent_kafka.admin import NewTopic

from streams.broker import EmbeddedBroker, EmbeddedCluster
from streams.broker.ports import free_ports
from streams.domain.topic import topic_of
from streams.errors import OutcomeUnknown, Unavailable
from streams.kafka.cluster import Cluster
from streams.kafka.dispatcher import Dispatcher
from streams.kafka.layout import apply_layout
from streams.ledger.ledger import Ledger
from streams.ports import GroupOffsets, Producer
from streams.records import Write
from streams.settings.settings import Settings
from tests.broker import checker
from tests.broker.scene import Scene, wait_until
from tests.support.names import own_name, remove_topics
from tests.support.patience import SLOWNESS, WAIT_S, allowed_s, deadline, stretched_ms

pytestmark = [pytest.mark.nodes, pytest.mark.alone]

_REQUEST_MS = stretched_ms(1_000)
_TRANSACTION_MS = stretched_ms(5_000, 900_000)
_DEADLINE_S = 8.0
"""Of a call that is given up after one request's time; a library that waits for ever takes longer, a slow day not."""
GOES_ON_S = 30.0
"""The promise: from the end of a fault to the next transaction of a drain."""
Call = Callable[[Cluster], Awaitable[object]]
Found = TypeVar("Found")


async def dispatch(kafka: Cluster) -> None:
    async def send(_: object) -> None:
        return

    dispatcher = Dispatcher(kafka.connection, "t", "g", send)
    try:
        await dispatcher.join()
    finally:
        await dispatcher.stop()


CALLS: Mapping[str, Call] = {
    "topics": lambda kafka: kafka.topics(),
    "topic": lambda kafka: kafka.topic("t"),
    "create": lambda kafka: kafka.create(["queue.t"]),
    "max_message_bytes": lambda kafka: kafka.max_message_bytes("t"),
    "high_watermarks": lambda kafka: kafka.high_watermarks("t", [0]),
    "stable_ends": lambda kafka: kafka.stable_ends("t", [0]),
    "log_starts": lambda kafka: kafka.log_starts("t", [0]),
    "delete_before": lambda kafka: kafka.delete_before("t", {0: 1}),
    "committed": lambda kafka: kafka.committed("g", "t", [0]),
    "members": lambda kafka: kafka.members("g"),
    "evict": lambda kafka: kafka.evict("g", ["m"]),
    "hold": lambda kafka: kafka.hold("g"),
    "producer": lambda kafka: kafka.producer("id"),
    "reader": lambda kafka: kafka.reader("t", 0, 0, 1),
    "tail": lambda kafka: kafka.tail("t", {0: 0}),
    "publish": lambda kafka: kafka.publish("t", [(b"k", b"v")]),
    "mark": lambda kafka: kafka.mark("t", 0, b"k", []),
    "apply_layout": lambda kafka: apply_layout(kafka.connection, kafka.settings),
    "depths": lambda kafka: kafka.depths({}, lambda _: True),
    "dispatch": dispatch,
}


async def ends_unavailable(call: Awaitable[object], promised_s: float = _DEADLINE_S) -> str:
    """What is wrong with how the call ended; nothing if it was given up in time."""
    within_s = allowed_s(promised_s)
    task = asyncio.ensure_future(call)
    await asyncio.wait([task], timeout=within_s)
    if not task.done():
        task.cancel()
        return f"not given up after {within_s} s"
    error = task.exception()
    return "" if isinstance(error, Unavailable | OutcomeUnknown) else f"ended with {error!r}"


async def bad_ends(calls: Mapping[str, Awaitable[object]], promised_s: float = _DEADLINE_S) -> dict[str, str]:
    """The calls, side by side, that were not given up in time."""
    ends = await asyncio.gather(*(ends_unavailable(call, promised_s) for call in calls.values()))
    return {name: end for name, end in zip(calls, ends, strict=True) if end}


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """Three addresses that take connections and never say a word."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(1 << 16):
                pass
        finally:
            writer.close()

    servers = [await asyncio.start_server(listen, "127.0.0.1", 0) for _ in range(3)]
    yield ",".join(f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers)
    for server in servers:
        server.close()


def impatient(servers: str, request_timeout_ms: int = _REQUEST_MS) -> Settings:
    values: dict[str, Any] = {
        "bootstrap_servers": servers,
        "request_timeout_ms": request_timeout_ms,
        "transaction_timeout_ms": _TRANSACTION_MS,
    }
    return Settings(**values)


async def test_every_call_is_given_up_where_nobody_answers(silent: str) -> None:
    async with Cluster(impatient(silent)) as kafka:
        assert await bad_ends({name: call(kafka) for name, call in CALLS.items()}) == {}


async def test_calls_that_wait_for_each_other_are_given_up_in_the_same_time(silent: str) -> None:
    async with Cluster(impatient(silent)) as kafka:
        several = {
            f"{name} {n}": call(kafka)
            for n in range(30)
            for name, call in CALLS.items()
            if name in ("publish", "committed", "evict")
        }
        assert await bad_ends(several) == {}


async def test_a_cluster_that_does_not_answer_is_closed_in_time(silent: str) -> None:
    kafka = Cluster(impatient(silent))
    await bad_ends({name: call(kafka) for name, call in CALLS.items()})
    began = time.monotonic()
    await kafka.close()
    assert time.monotonic() - began < allowed_s(_DEADLINE_S)


# ---- a broker that hangs


async def test_what_was_open_is_given_up_and_closed_in_time_while_the_broker_hangs(running: EmbeddedBroker) -> None:
    topic, id = f"queue.{own_name()}", uuid.uuid4().hex
    async with Cluster(impatient(running.bootstrap_servers, stretched_ms(3_000))) as kafka:
        assert await until(lambda: kafka.create([topic])) == {}
        await until(lambda: kafka.topic(topic))
        producer, other = await until(lambda: kafka.producer(id)), await until(lambda: kafka.producer(f"{id}.other"))
        await producer.transact([one(producer, topic)], GroupOffsets("g", topic, {0: 1}))
        reader, tail = await kafka.reader(topic, 0, 0, 10), await kafka.tail(topic, dict.fromkeys(range(4), 0))
        warm: list[Call] = [CALLS["committed"], CALLS["members"], lambda kafka: kafka.publish(topic, [(b"k", b"v")], 0)]
        for call in warm:
            await until(partial(ended, call, kafka))

        async def hang() -> None:
            running.pause()

        try:
            began = time.monotonic()
            with pytest.raises(OutcomeUnknown):  # the commit was sent; whether it counts nobody says
                await producer.transact([one(producer, topic)], None, hang)
            assert time.monotonic() - began < allowed_s(_DEADLINE_S)
            held = {name: call(kafka) for name, call in CALLS.items() if name != "dispatch"}
            held["transact"] = other.transact([one(other, topic)])
            held["partitions"] = other.partitions(["nowhere"])
            assert await bad_ends(held, _TRANSACTION_MS / 1000 + _DEADLINE_S) == {}
            began = time.monotonic()
            await asyncio.gather(producer.close(), other.close(), reader.close(), tail.close())
            assert time.monotonic() - began < allowed_s(_DEADLINE_S)
        finally:
            running.resume()
        # Whoever takes the id over is not disturbed by what was sent before.
        again = await until(lambda: kafka.producer(id))
        await again.transact([one(again, topic)])
        await again.close()
        assert await until(lambda: kafka.stable_ends(topic, [0]))
    remove_topics(running.bootstrap_servers, topic)


async def ended(call: Call, kafka: Cluster) -> bool:
    await call(kafka)
    return True


def one(producer: Producer, topic: str) -> Write:
    batch = producer.batch()
    batch.append(timestamp=None, key=b"k", value=b"v", headers=[])
    return Write(topic, 0, batch)


async def until(look: Callable[[], Awaitable[Found | None]]) -> Found:
    """What a look finds, once Kafka answers it."""
    end = deadline()
    while True:
        try:
            found = await look()
        except (Unavailable, OutcomeUnknown):
            found = None
        if found is not None:
            return found
        end.check()
        await asyncio.sleep(0.1)


# ---- what a worker says, and that it goes on by itself


class Watched:
    """A worker and what it says on its own port."""

    def __init__(self, scene: Scene) -> None:
        (self.port,) = free_ports(1)
        self.worker = scene.worker(metrics_port=self.port).started()

    def get(self, path: str) -> tuple[int, str]:
        """The answer's status and body."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=WAIT_S) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """A metric without labels."""
        (line,) = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(f"{name} ")]
        return float(line.split()[1])

    def says(self, status: int, *texts: str) -> None:
        """Wait until /readyz answers so; /livez never minds."""
        wait_until(lambda: self.get("/readyz")[0] == status and all(text in self.get("/readyz")[1] for text in texts))
        assert self.metric("xferq_stalled") == (status == 503)
        assert self.get("/livez")[0] == 200


def goes_on(scene: Scene, since: float) -> None:
    """By itself, within the time that is promised, counted from the moment at which the fault has ended."""
    before = scene.restored(scene.ledger())
    scene.until(lambda ledger: scene.restored(ledger) > before, allowed_s(GOES_ON_S))
    print(f"went on after {time.monotonic() - since:.1f} s")


def in_the_middle(scene: Scene) -> None:
    scene.put(2000, queues=2)
    scene.cancel("a")
    scene.until(lambda ledger: scene.restored(ledger) >= 200)


def follow(scene: Scene, seconds: float = 1.0) -> None:
    """Read all of the ledger that can be read: what comes later is progress."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        scene.ledger(0.02)


_SMALL = {"transaction_messages": 5}
_LONGER_S = 32.0 * SLOWNESS
"""Than sessions, transactions and requests of a `Scene` last."""


def test_a_broker_that_hangs_for_long(running: EmbeddedBroker) -> None:
    with Scene(running.bootstrap_servers, **_SMALL) as scene:
        watched = Watched(scene)
        watched.says(200, "ok")
        in_the_middle(scene)
        running.pause()
        try:
            paused = time.monotonic()
            watched.says(503, "Kafka at", "XFERQ_BOOTSTRAP_SERVERS")
            wait_until(lambda: watched.metric("xferq_waiting_seconds") > 0)
            time.sleep(max(0.0, paused + _LONGER_S - time.monotonic()))
        finally:
            running.resume()
        since = time.monotonic()
        goes_on(scene, since)
        scene.done()
        watched.says(200, "ok")
        assert watched.metric("xferq_waiting") == 0
        assert scene.problems() == []


def test_a_broker_that_is_killed_and_comes_back(running: EmbeddedBroker) -> None:
    with Scene(running.bootstrap_servers, **_SMALL) as scene:
        watched = Watched(scene)
        in_the_middle(scene)
        running.kill()
        watched.says(503, "Kafka at")
        running.start()
        since = time.monotonic()
        goes_on(scene, since)
        scene.done()
        watched.says(200, "ok")
        assert scene.problems() == []


class Replicated(Scene):
    """On three nodes: every topic on all of them."""

    def create(self, topics: Mapping[str, int]) -> None:
        for topic, count in topics.items():
            self.place(topic, [[1, 2, 3]] * count)

    def place(self, topic: str, replicas: list[list[int]]) -> None:
        """Create a topic on these nodes; two replicas of a partition must be there for a write."""
        policy = "compact" if topic == self.settings.ledger_topic else "delete"
        config = {"cleanup.policy": policy, "retention.ms": "-1", "min.insync.replicas": "2"}
        wanted = NewTopic(topic, len(replicas), replica_assignment=replicas, config=config)
        self.admin.create_topics([wanted])[topic].result(WAIT_S)
        wait_until(lambda: checker.is_ready(self.servers, topic))


def test_a_destination_that_takes_nothing_for_a_while(cluster: EmbeddedCluster) -> None:
    with Replicated(cluster.bootstrap_servers, **_SMALL) as scene:
        watched = Watched(scene)
        # One of the destinations does not survive the third node; everything else does.
        topic = topic_of(scene.messages(1)[0].queue)
        scene.place(topic, [[1, 3]] * scene.settings.queue_partitions)
        in_the_middle(scene)
        cluster.nodes[2].kill()
        watched.says(503, "drain", scene.topic, "can't get on")
        assert watched.metric("xferq_waiting_seconds") > 10
        detail = asyncio.run(detail_of(scene, "a"))
        assert detail.startswith(f"waiting for {scene.topic}/")
        # Either what it writes is not taken, or what it has written can't be ended: markers are records as well.
        assert topic in detail or "has to end first" in detail
        follow(scene)
        cluster.nodes[2].start()
        goes_on(scene, time.monotonic())
        ended = scene.done().status("a") or {}
        assert (ended["state"], ended.get("detail")) == ("done", None)
        watched.says(200, "ok")
        assert scene.problems() == []


def test_a_destination_that_is_deleted_in_the_middle(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers, **_SMALL) as scene:
        watched = Watched(scene)
        in_the_middle(scene)
        scene.admin.delete_topics([scene.destinations[0]])[scene.destinations[0]].result(WAIT_S)
        since = time.monotonic()
        follow(scene, 2.0)
        assert scene.restored(scene.ledger()) < len(scene.sent)
        goes_on(scene, since)
        ended = scene.done().status("a") or {}
        assert (ended["restored"], ended["returned"]) == (len(scene.sent), 0)
        watched.says(200, "ok")


async def detail_of(scene: Scene, id: str) -> str:
    """What the status says that the command waits for, once it does."""
    async with Cluster(scene.settings) as kafka:
        ledger = Ledger(kafka, scene.settings)
        await ledger.start()
        try:
            end = deadline()
            while True:
                status = ledger.status(id)
                if status is not None and status.detail is not None:
                    return status.detail
                end.check(str(status))
                await asyncio.sleep(0.1)
        finally:
            await ledger.stop()
