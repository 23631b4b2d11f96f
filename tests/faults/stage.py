"""Where a fault run takes place: a cluster of three, a proxy before it, workers and dispatchers as processes."""

import contextlib
import itertools
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.domain.ledger_partitions import ledger_width
from streams.settings.settings import Settings
from tests.broker.scene import WAIT_S, WorkerProcess, wait_until
from tests.faults import worker
from tests.faults.dispatcher import Dispatcher
from tests.faults.history import book_of
from tests.faults.links import LinkedCluster
from tests.faults.mail import PARTITIONS, Names
from tests.faults.proxy import Relay
from tests.support.patience import stretched_ms
from tests.support.warm import WarmPopen

_HEAP_MB = 320
_ROOT = Path(__file__).parents[2]


class DispatcherProcess:
    """A dispatcher, which may be killed and stopped like a worker."""

    def __init__(self, *arguments: str) -> None:
        self._process = WarmPopen(
            [sys.executable, "-m", Dispatcher.__module__, *arguments],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_ROOT,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def pause(self) -> None:
        """SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()


class Stage:
    """The cluster and all that runs on it; a context manager."""

    def __init__(
        self,
        run: str,
        folder: Path,
        *,
        cluster: LinkedCluster | None = None,
        weakness: worker.Weakness | None = None,
        **settings: Any,
    ) -> None:
        """Nothing is started yet.

        Args:
            cluster: a relayed one that runs already and is left running; None for one of its own.
        """
        self.names = Names(run)
        self.folder = folder
        self.weakness = weakness
        self._is_own = cluster is None
        self.cluster = cluster or LinkedCluster(relayed=True, heap_mb=_HEAP_MB, data_dir=folder / "kafka")
        self.values: dict[str, Any] = {
            "commands_topic": f"{run}.commands",
            "drains_topic": f"{run}.drains",
            "ledger_topic": f"{run}.ledger",
            "log_topic": f"{run}.log",
            "results_topic": f"{run}.results",
            "worker_group": f"{run}.worker",
            "commands_partitions": 4,
            "drains_partitions": 8,
            "ledger_partitions": 4,
            "log_partitions": 2,
            "results_partitions": 2,
            "queue_partitions": PARTITIONS,
            "worker_session_ms": 6_000,
            "request_timeout_ms": stretched_ms(5_000),
            "transaction_timeout_ms": stretched_ms(10_000, 900_000),
            "guard_ms": 500,
            "hold_ms": 3_000,
            "stalled_ms": 15_000,
            "transaction_messages": 200,
            "fetch_bytes": 1 << 18,
            "worker_processes": 1,
            "metrics_port": 0,
            **settings,
        }
        self.settings = Settings(**self.values)
        self.workers: dict[int, WorkerProcess] = {}
        self.dispatchers: dict[str, DispatcherProcess] = {}
        self._lives = itertools.count()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self.cluster.start()
        self.servers = self.cluster.bootstrap_servers
        self.relayed_servers = self.cluster.relayed_servers
        self.relay = Relay(self.cluster.routes)
        self.relay.start()
        self.admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        self._create_topics()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in self.workers.values():
            each.close()
        self.stop_dispatchers()
        self.relay.close()
        for node in self.cluster.nodes:
            if node.is_running:
                node.resume()
        if self._is_own:
            self.cluster.stop()

    def _create_topics(self) -> None:
        settings, names = self.settings, self.names
        wanted = {
            settings.commands_topic: settings.commands_partitions,
            settings.drains_topic: settings.drains_partitions,
            settings.ledger_topic: ledger_width(settings.ledger_partitions),
            settings.log_topic: settings.log_partitions,
            settings.results_topic: settings.results_partitions,
            book_of(names): 1,
            **dict.fromkeys(names.topics, PARTITIONS),
        }
        for topic, count in wanted.items():
            config = {"retention.ms": "-1", "retention.bytes": "-1"}
            if topic == settings.ledger_topic:
                config = {"cleanup.policy": "compact", "min.compaction.lag.ms": "86400000"}
            self.admin.create_topics([NewTopic(topic, count, 3, config=config)])[topic].result(WAIT_S)
        wait_until(lambda: wanted.keys() <= self.admin.list_topics(timeout=WAIT_S).topics.keys())

    # ---- workers and dispatchers

    def start_worker(self, slot: int, variables: Mapping[str, str] | None = None) -> WorkerProcess:
        """Start a worker in this place; whoever had it must have ended."""
        environment = {f"XFERQ_{name.upper()}": str(value) for name, value in self.values.items()}
        environment["XFERQ_BOOTSTRAP_SERVERS"] = self.relayed_servers
        if self.weakness is not None:
            environment[worker.WEAKNESS] = self.weakness
        started = WorkerProcess({**environment, **(variables or {})}, *worker.OPTIONS)
        with self._lock:
            before = self.workers.get(slot)
            if before is not None:
                self._keep_log(slot, before)
                before.close()
            self.workers[slot] = started
        return started

    def _keep_log(self, slot: int, ended: WorkerProcess) -> None:
        with (self.folder / f"worker-{slot}.log").open("a") as kept:
            kept.write(f"---- {ended.pid}\n{ended.log}")

    def keep_logs(self) -> None:
        """Keep the logs of all workers in the run's folder."""
        for slot, running in self.workers.items():
            self._keep_log(slot, running)

    def start_dispatcher(
        self, name: str, topic: str, per_second: float, *, direct: bool = False, commits_after_s: float = 0.0
    ) -> DispatcherProcess:
        """Start a dispatcher of a queue topic, through the proxy or not; the one of this name before has ended."""
        before = self.dispatchers.pop(name, None)
        if before is not None:
            before.close()
        servers = self.servers if direct else self.relayed_servers
        life = f"{name}.{next(self._lives)}"  # a new one each time: its batches are counted from 1 again
        arguments = (
            life,
            servers,
            topic,
            self.settings.group_of(topic),
            book_of(self.names),
            str(per_second),
            str(commits_after_s),
        )
        self.dispatchers[name] = DispatcherProcess(*arguments)
        return self.dispatchers[name]

    def stop_dispatchers(self) -> None:
        """End all of them."""
        for process in self.dispatchers.values():
            process.close()

    # ---- offsets

    def heads(self) -> dict[tuple[int, int], int]:
        """The heads of all queue topics, each topic by its number."""
        topics = enumerate(self.names.topics)
        return {(number, p): offset for number, topic in topics for p, offset in self.committed(topic).items()}

    def committed(self, topic: str) -> dict[int, int]:
        """The heads of a queue topic as its group has them."""
        with self._outsider(topic) as outsider:
            wanted = [TopicPartition(topic, number) for number in range(PARTITIONS)]
            return {where.partition: where.offset for where in outsider.committed(wanted, 60) if where.offset >= 0}

    def rewind(self, topic: str, offsets: Mapping[int, int]) -> bool:
        """Set a group's offsets, as one does who is no member; whether Kafka took them."""
        with self._outsider(topic) as outsider:
            where = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
            try:
                outsider.commit(offsets=where, asynchronous=False)
            except KafkaException:
                return False
            return True

    @contextlib.contextmanager
    def _outsider(self, topic: str) -> Iterator[Consumer]:
        """A consumer of the group that is no member. (The admin client's way to the offsets ends the process with
        a segmentation fault when the coordinator is another one by now.)"""
        consumer = Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": self.settings.group_of(topic),
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        try:
            yield consumer
        finally:
            consumer.close()

    def forget_group(self, topic: str) -> bool:
        """Delete a group with its offsets, as if they had expired; whether Kafka did it."""
        arguments = self.servers, self.settings.group_of(topic)
        command = [sys.executable, "-m", "tests.faults.forget_group", *arguments]
        return subprocess.run(command, cwd=_ROOT, stderr=subprocess.DEVNULL, timeout=WAIT_S).returncode == 0
