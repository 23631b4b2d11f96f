"""The proxy between real clients and a real cluster: each fault as the clients see it."""

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from confluent_kafka import Consumer, Message, Producer
from confluent_kafka import TopicPartition as Partition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.broker.config import Route
from streams.broker.ports import free_ports
from streams.broker.probe import live_nodes
from tests.faults.links import LinkedCluster
from tests.faults.ordered import OrderError
from tests.faults.proxy import Api, Relay
from tests.support.names import own_name, remove_topics
from tests.support.patience import WAIT_S, deadline

pytestmark = pytest.mark.cluster

PARENT = """
import sys, time
from tests.faults.proxy import Relay
relay = Relay({1: (int(sys.argv[1]), 1)})
relay.start()
print(flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def _relay_of_the_run(_cluster_of_the_run: LinkedCluster) -> Iterator[Relay]:
    with Relay(_cluster_of_the_run.routes) as relay:
        yield relay


@pytest.fixture
def relay(_relay_of_the_run: Relay) -> Iterator[Relay]:
    """The proxy before the cluster, without any fault; what a test leaves is put right."""
    yield _relay_of_the_run
    _relay_of_the_run.allow()
    _relay_of_the_run.resume()
    _relay_of_the_run.delay(0)


@pytest.fixture
def topic(cluster: LinkedCluster) -> Iterator[str]:
    """A new topic of one partition."""
    name = own_name("topic")
    creator = admin(cluster)  # kept: without it, nothing would be created
    for done in creator.create_topics([NewTopic(name, 1, 3)]).values():
        done.result(WAIT_S)
    yield name
    remove_topics(cluster.bootstrap_servers, name)


def admin(cluster: LinkedCluster) -> AdminClient:
    """An admin client that doesn't come through the proxy."""
    return AdminClient({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})


def leader(cluster: LinkedCluster, topic: str) -> int:
    return int(admin(cluster).list_topics(topic, timeout=WAIT_S).topics[topic].partitions[0].leader)


class Sender:
    """librdkafka's producer, through the proxy, and what became of its messages."""

    def __init__(self, cluster: LinkedCluster, **settings: Any) -> None:
        common = {"bootstrap.servers": cluster.relayed_servers, "log_level": 0, "acks": "all"}
        self.producer = Producer({**common, **{name.replace("_", "."): value for name, value in settings.items()}})
        self.failures: list[Any] = []

    def send(self, topic: str, value: bytes) -> None:
        while True:
            try:
                self.producer.produce(topic, value, on_delivery=self._delivered)
                return
            except BufferError:
                self.producer.poll(0.1)

    def flush(self) -> None:
        """Wait until every message was acknowledged."""
        assert self.producer.flush(WAIT_S) == 0
        assert self.failures == []

    def _delivered(self, error: Any, _: Message) -> None:
        if error:
            self.failures.append(error)


@asynccontextmanager
async def aiokafka_sender(cluster: LinkedCluster, **settings: Any) -> AsyncIterator[AIOKafkaProducer]:
    """aiokafka's producer, through the proxy; it is left without waiting for what it still wants to do."""
    producer = AIOKafkaProducer(bootstrap_servers=cluster.relayed_servers, **settings)
    await producer.start()
    try:
        yield producer
    finally:
        stopping = asyncio.ensure_future(producer.stop())
        await asyncio.wait([stopping], timeout=5)
        await producer.client.close()
        stopping.cancel()


def committed(cluster: LinkedCluster, topic: str) -> list[bytes]:
    """All committed values of the topic, read past the proxy once no transaction on it is open any more."""
    settings = {"group.id": "reader", "isolation.level": "read_committed", "log_level": 0}
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap_servers, **settings})
    end = deadline()
    values: list[bytes] = []
    try:
        # Beyond all that is there: a record of our own that was written later. A reader that gets it has seen all.
        mark = Producer({"bootstrap.servers": cluster.bootstrap_servers, "log_level": 0})
        mark.produce(topic, b"mark")
        assert mark.flush(WAIT_S) == 0
        consumer.assign([Partition(topic, 0, 0)])
        while b"mark" not in values[-1:]:
            end.check()
            values += [message.value() for message in consumer.consume(10_000, timeout=1) if not message.error()]
        return [value for value in values if value != b"mark"]
    finally:
        consumer.close()


class Plain:
    """A connection through the proxy without a Kafka client: it doesn't connect again by itself."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)

    def __enter__(self) -> "Plain":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, api: int, version: int, correlation_id: int, body: bytes) -> None:
        request = struct.pack(">hhih", api, version, correlation_id, -1) + body
        self.socket.sendall(struct.pack(">i", len(request)) + request)

    def ask_metadata(self, correlation_id: int) -> None:
        """Metadata of no topic."""
        self.ask(3, 1, correlation_id, struct.pack(">i", 0))

    def ask_for_topic(self, name: str) -> None:
        """CreateTopics: one partition, one replica."""
        asked = struct.pack(">ih", 1, len(name)) + name.encode() + struct.pack(">ihii", 1, 1, 0, 0)
        self.ask(19, 2, 1, asked + struct.pack(">i?", 30_000, False))

    def answer(self) -> int:
        """The correlation id of the next answer."""
        size, correlation_id = struct.unpack(">ii", self._exactly(8))
        self._exactly(size - 4)
        return int(correlation_id)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            assert more, "the connection was closed"
            data += more
        return data

    def has_more(self, within_s: float) -> bool:
        """Whether anything comes, the end or a reset included."""
        self.socket.settimeout(within_s)
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        finally:
            self.socket.settimeout(WAIT_S)
        return True


def eventually(condition: Callable[[], bool]) -> bool:
    end = deadline()
    while not condition():
        if end.is_over:
            return False
        time.sleep(0.05)
    return True


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_a_hundred_thousand_messages_pass_unchanged(relay: Relay, cluster: LinkedCluster, topic: str) -> None:
    sender = Sender(cluster, enable_idempotence=True)
    values = [b"%d:" % number + b"x" * (number % 500) for number in range(100_000)]
    for value in values:
        sender.send(topic, value)
    sender.flush()
    consumer = AIOKafkaConsumer(bootstrap_servers=cluster.relayed_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        found: list[bytes] = []
        async with asyncio.timeout(WAIT_S):
            while len(found) < len(values):
                for records in (await consumer.getmany(timeout_ms=1000)).values():
                    found += [record.value for record in records]
    finally:
        await consumer.stop()
    assert found == values


def test_clients_are_kept_to_the_proxy_and_others_past_it(relay: Relay, cluster: LinkedCluster) -> None:
    through = AdminClient({"bootstrap.servers": cluster.relayed_servers, "log_level": 0}).list_topics(timeout=WAIT_S)
    past = admin(cluster).list_topics(timeout=WAIT_S)
    assert {node: at.port for node, at in through.brokers.items()} == {
        node: route.advertised for node, route in cluster.routes.items()
    }
    assert {node: at.port for node, at in past.brokers.items()} == {
        node: port for (node, door), port in cluster.doors.items() if door == "broker"
    }


@pytest.mark.parametrize("library", ["librdkafka", "aiokafka"])
async def test_an_idempotent_producer_whose_answers_are_lost_writes_once(
    relay: Relay, cluster: LinkedCluster, topic: str, library: str
) -> None:
    before = relay.dropped()
    relay.drop_answer("produce", count=2)
    if library == "aiokafka":
        async with aiokafka_sender(cluster, enable_idempotence=True) as producer:
            await asyncio.wait_for(producer.send_and_wait(topic, b"one"), WAIT_S)
    else:
        sender = Sender(cluster, enable_idempotence=True)
        sender.send(topic, b"one")
        sender.flush()
    assert relay.dropped() == before + 2
    assert committed(cluster, topic) == [b"one"]


def test_what_was_lost_is_the_answer_and_not_the_request(relay: Relay, cluster: LinkedCluster, topic: str) -> None:
    relay.drop_answer("produce", count=2)
    sender = Sender(cluster, enable_idempotence=False)
    sender.send(topic, b"one")
    sender.flush()
    assert committed(cluster, topic) == [b"one"] * 3  # that is why producers are idempotent


async def test_a_transaction_is_committed_though_nobody_was_told(
    relay: Relay, cluster: LinkedCluster, topic: str
) -> None:
    before = relay.dropped()
    async with aiokafka_sender(cluster, transactional_id=topic) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"one")
        relay.drop_answer("end_txn", then="hang")
        commit = asyncio.ensure_future(producer.commit_transaction())
        assert await asyncio.to_thread(eventually, lambda: relay.dropped() == before + 1)
        assert await asyncio.to_thread(committed, cluster, topic) == [b"one"]
        assert not commit.done()
        commit.cancel()


@pytest.mark.parametrize(
    "api",
    ["init_producer_id", "add_partitions_to_txn", "produce", "add_offsets_to_txn", "txn_offset_commit", "end_txn"],
)
def test_any_answer_to_a_transactions_requests_may_be_lost(
    relay: Relay, cluster: LinkedCluster, topic: str, api: Api
) -> None:
    before = relay.dropped()
    relay.drop_answer(api)
    sender = Sender(cluster, transactional_id=topic)
    producer = sender.producer
    consumer = Consumer({"bootstrap.servers": cluster.relayed_servers, "group.id": topic, "log_level": 0})
    producer.init_transactions(WAIT_S)
    producer.begin_transaction()
    sender.send(topic, b"one")
    producer.send_offsets_to_transaction([Partition(topic, 0, 7)], consumer.consumer_group_metadata(), WAIT_S)
    producer.commit_transaction(WAIT_S)
    assert relay.dropped() == before + 1
    assert committed(cluster, topic) == [b"one"]
    assert consumer.committed([Partition(topic, 0)], timeout=WAIT_S)[0].offset == 7
    consumer.close()


def test_a_loss_can_be_taken_back(relay: Relay, cluster: LinkedCluster) -> None:
    before = relay.dropped()
    relay.drop_answer("metadata", count=5)
    relay.drop_answer("metadata", count=0)
    assert live_nodes(cluster.routes[1].advertised, WAIT_S) == {1, 2, 3}
    assert relay.dropped() == before


def test_only_the_lost_answer_is_missing_where_the_connection_goes_on(relay: Relay, cluster: LinkedCluster) -> None:
    with Plain(cluster.routes[2].advertised) as plain:
        plain.ask_metadata(1)
        assert plain.answer() == 1
        relay.drop_answer("metadata", then="hang", count=2)
        for correlation_id in (2, 3, 4):
            plain.ask_metadata(correlation_id)
        assert plain.answer() == 4


def test_answers_before_the_lost_one_arrive_before_the_connection_is_closed(
    relay: Relay, cluster: LinkedCluster
) -> None:
    with Plain(cluster.routes[2].advertised) as plain:
        relay.delay(200, node=2)
        relay.drop_answer("create_topics")
        for correlation_id in range(2, 10):
            plain.ask_metadata(correlation_id)
        name = own_name("topic")
        plain.ask_for_topic(name)
        plain.ask_metadata(10)
        assert [plain.answer() for _ in range(2, 10)] == list(range(2, 10))
        assert plain.socket.recv(1) == b""
    remove_topics(cluster.bootstrap_servers, name)


def test_cut_again_and_again(relay: Relay, cluster: LinkedCluster, topic: str) -> None:
    sender = Sender(cluster, enable_idempotence=True, reconnect_backoff_max_ms=200)
    values = [b"%d" % number for number in range(5000)]
    for number, value in enumerate(values):
        sender.send(topic, value)
        if number % 1000 == 500:
            sender.producer.poll(0.2)
            relay.cut()
    sender.flush()
    assert committed(cluster, topic) == values


def test_a_cut_is_a_reset_of_the_connections_of_one_node(relay: Relay, cluster: LinkedCluster) -> None:
    with Plain(cluster.routes[1].advertised) as one, Plain(cluster.routes[2].advertised) as two:
        for plain in (one, two):
            plain.ask_metadata(1)
            assert plain.answer() == 1
        relay.cut(1)
        with pytest.raises(ConnectionResetError):
            one.socket.recv(1)
        two.ask_metadata(2)
        assert two.answer() == 2
    assert live_nodes(cluster.routes[1].advertised, WAIT_S) == {1, 2, 3}


def test_refused_until_allowed(relay: Relay, cluster: LinkedCluster, topic: str) -> None:
    sender = Sender(cluster, enable_idempotence=True, reconnect_backoff_max_ms=200)
    sender.send(topic, b"one")
    sender.flush()
    node = leader(cluster, topic)
    relay.refuse(node)
    sender.send(topic, b"two")
    assert sender.producer.flush(2) == 1
    assert live_nodes(cluster.routes[node].advertised, WAIT_S) == frozenset()
    assert live_nodes(cluster.routes[node % 3 + 1].advertised, WAIT_S) == {1, 2, 3}
    relay.allow(node)
    sender.flush()
    assert committed(cluster, topic) == [b"one", b"two"]


async def test_hung_until_resumed(relay: Relay, cluster: LinkedCluster, topic: str) -> None:
    async with aiokafka_sender(cluster, enable_idempotence=True) as producer:
        await producer.send_and_wait(topic, b"one")
        relay.hang(leader(cluster, topic))
        sending = asyncio.ensure_future(producer.send_and_wait(topic, b"two"))
        await asyncio.wait([sending], timeout=2)
        assert not sending.done()
        relay.resume(leader(cluster, topic))
        await asyncio.wait_for(sending, WAIT_S)
    assert committed(cluster, topic) == [b"one", b"two"]


def test_what_waits_while_it_hangs_is_forwarded_afterwards(relay: Relay, cluster: LinkedCluster) -> None:
    with Plain(cluster.routes[3].advertised) as old:
        old.ask_metadata(1)
        assert old.answer() == 1
        relay.hang(3)
        with Plain(cluster.routes[3].advertised) as new:
            for plain in (old, new):
                plain.ask_metadata(2)
            assert not old.has_more(within_s=0.5)
            assert not new.has_more(within_s=0.5)
            relay.resume(3)
            assert (old.answer(), new.answer()) == (2, 2)


async def test_delayed_both_ways(relay: Relay, cluster: LinkedCluster, topic: str) -> None:
    async with aiokafka_sender(cluster) as producer:
        await producer.send_and_wait(topic, b"one")
        relay.delay(400)
        started = time.monotonic()
        await producer.send_and_wait(topic, b"two")
        assert time.monotonic() - started >= 0.8
    assert committed(cluster, topic) == [b"one", b"two"]


def test_a_delay_keeps_the_order_and_its_end_lets_everything_out(relay: Relay, cluster: LinkedCluster) -> None:
    with Plain(cluster.routes[1].advertised) as plain:
        for number, ms in enumerate((300, 20, 100)):
            relay.delay(ms, node=1)
            for correlation_id in range(20):
                plain.ask_metadata(number * 20 + correlation_id)
        assert [plain.answer() for _ in range(60)] == list(range(60))
        relay.delay(3_600_000, node=1)
        for correlation_id in range(60, 80):
            plain.ask_metadata(correlation_id)
        assert not plain.has_more(within_s=0.5)
        relay.delay(0, node=1)
        assert [plain.answer() for _ in range(20)] == list(range(60, 80))


def test_half_closed_the_client_hears_nothing_and_is_still_heard(relay: Relay, cluster: LinkedCluster) -> None:
    name = own_name("topic")
    with Plain(cluster.routes[1].advertised) as plain:
        plain.ask_metadata(1)
        assert plain.answer() == 1
        relay.half_close(1)
        assert plain.socket.recv(1) == b""
        plain.ask_for_topic(name)
        assert eventually(lambda: name in admin(cluster).list_topics(timeout=WAIT_S).topics)
    remove_topics(cluster.bootstrap_servers, name)


def test_half_closed_when_the_client_has_just_gone(relay: Relay, cluster: LinkedCluster) -> None:
    with Plain(cluster.routes[1].advertised) as plain:
        plain.ask_metadata(1)
        assert plain.answer() == 1
        relay.hang(1)  # so that nothing is read, and the proxy does not know yet
        plain.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    time.sleep(0.2)
    relay.half_close(1)
    relay.resume(1)


async def test_half_closed_clients_come_back(relay: Relay, cluster: LinkedCluster, topic: str) -> None:
    sender = Sender(cluster, enable_idempotence=True)
    async with aiokafka_sender(cluster, enable_idempotence=True) as producer:
        for number in range(3):
            sender.send(topic, b"l%d" % number)
            sender.flush()
            await asyncio.wait_for(producer.send_and_wait(topic, b"a%d" % number), WAIT_S)
            relay.half_close()
    assert committed(cluster, topic) == [b"l0", b"a0", b"l1", b"a1", b"l2", b"a2"]


def test_what_is_not_kafkas_protocol_harms_nobody_else(relay: Relay, cluster: LinkedCluster) -> None:
    port = cluster.routes[1].advertised
    with Plain(port) as fine:
        for garbage in (b"\x00\x00\x00\x01 and so on", b"\xff" * 1000, b"GET / HTTP/1.1\r\n\r\n"):
            with Plain(port) as plain:
                plain.socket.sendall(garbage)
        fine.ask_metadata(1)
        assert fine.answer() == 1


def test_a_node_that_is_killed_and_started_again_is_reached_by_the_same_port(
    relay: Relay, cluster: LinkedCluster
) -> None:
    route = cluster.routes[3]
    with Plain(route.advertised) as plain:
        plain.ask_metadata(1)
        assert plain.answer() == 1
        cluster.nodes[2].kill()
        assert plain.has_more(within_s=WAIT_S)
    assert live_nodes(route.advertised, WAIT_S) == frozenset()
    cluster.start()
    assert cluster.routes[3] == route
    assert live_nodes(route.advertised, WAIT_S) == {1, 2, 3}


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        relay = Relay({1: Route(advertised=port, port=1)})
        with pytest.raises(OrderError, match=f"{port}"):
            relay.start()


def test_it_ends_when_it_is_closed() -> None:
    (port,) = free_ports(1)
    relay = Relay({1: Route(advertised=port, port=1)})
    with relay:
        assert listens(port)
    assert not listens(port)
    with pytest.raises(OrderError, match="isn't running"):
        relay.cut()


def test_it_ends_with_its_parent() -> None:
    (port,) = free_ports(1)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PARENT, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        assert listens(port)
        os.kill(parent.pid, signal.SIGKILL)
    assert eventually(lambda: not listens(port))
