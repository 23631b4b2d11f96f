"""A stage for faults: topics of its own, worker processes to be killed and paused, the ledger to be watched.

Everything here goes through confluent-kafka and plain processes: what is tested must not help to test itself.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streams.domain.ledger_partitions import ledger_width
from streams.domain.topic import topic_of
from streams.settings.settings import Settings
from tests.broker import checker
from tests.broker.checker import Found, LedgerView, Sent
from tests.support.names import own_name, remove_topics
from tests.support.patience import WAIT_S, allowed_s, deadline, stretched_ms, wait_until
from tests.support.warm import WarmPopen

ONE_BY_ONE = {"max.in.flight": 1}
"""For librdkafka's producers: a request waits for the answer to the one before.

A queue made a moment before has held 39 of 40 acknowledged messages. How that can be, though it was not brought about:
1. A topic has just been made. Its leader turns down the first request, and takes the second one, a moment later.
2. Kafka takes a producer's first batch in a partition with any sequence number. The first request's is an old one now.
3. Sent again, it is answered as one that was written before: it counts as acknowledged, and is not there.
"""
_WORKER = (
    "import sys; from streams.settings.settings import load_settings; from streams.worker.process import run_worker; "
    "from tests.broker.orphan import end_with_parent, end_later; "
    "end_with_parent(); end_later(); sys.exit(run_worker(load_settings()))"
)

_MARKERS_S = 2.0
_FAST: Mapping[str, Any] = {
    "commands_partitions": 4,
    "drains_partitions": 8,
    "ledger_partitions": 4,
    "log_partitions": 2,
    "results_partitions": 2,
    "worker_session_ms": stretched_ms(6_000, 30_000),
    "request_timeout_ms": stretched_ms(5_000),
    "transaction_timeout_ms": stretched_ms(10_000, 900_000),
    "guard_ms": 200,
    "hold_ms": 1_000,
    "space_s": 3_600.0,
    "gone_s": 2.5,
    "metrics_port": 0,
    "log_level": "INFO",
}


class WorkerProcess:
    """A worker as its operator sees it: a process with a log."""

    def __init__(self, variables: Mapping[str, str], *options: str) -> None:
        # For what it leaves there when it is killed, as well.
        self._folder = tempfile.TemporaryDirectory(prefix="xferq-worker-")
        self._log = Path(self._folder.name) / "log"
        with self._log.open("wb") as log:
            self._process = WarmPopen(
                [sys.executable, *options, "-c", _WORKER],
                env={**os.environ, **variables, "TMPDIR": self._folder.name},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def assigned(self) -> int:
        """How many partitions it has been given last."""
        given = re.findall(r"worker.assigned partitions=(\d+)", self.log)
        return int(given[-1]) if given else 0

    def started(self) -> Self:
        """Wait until it takes part in the work."""
        self.says("worker.assigned")
        return self

    def says(self, text: str, times: int = 1) -> None:
        """Wait until it has logged `text`."""

        def is_said() -> bool:
            if self.log.count(text) >= times:
                return True
            assert self.is_running, f"the worker has ended: {self.log[-3000:]}"
            return False

        wait_until(is_said, why=lambda: f"the worker does not say {text!r}: {self.log[-3000:]}", pause_s=0.05)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait(WAIT_S)

    def pause(self) -> None:
        """SIGSTOP; returns when it stands still."""
        self._process.send_signal(signal.SIGSTOP)
        status = Path(f"/proc/{self.pid}/status")
        wait_until(lambda: re.search(r"^State:\s+T", status.read_text(), re.MULTILINE), pause_s=0.001)

    def resume(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM; returns at once."""
        self._process.terminate()

    def wait(self, timeout_s: float = WAIT_S) -> int:
        """Its exit status, once it has ended."""
        return self._process.wait(timeout_s)

    def waits_for(self, why: str) -> None:
        """See that it waits, says why, and ends in order when it is told to."""
        self.says("worker.waiting")
        assert why in self.log
        self.terminate()
        assert self.wait() == 0
        assert "Traceback" not in self.log

    def close(self) -> None:
        """End it, however it is."""
        if self.is_running:
            self.resume()
            self.kill()
        self._folder.cleanup()


class Scene:
    """One xfer queue, its topics, and what is done to them."""

    replication = 1
    """On how many nodes its topics are."""

    def __init__(self, servers: str, **settings: Any) -> None:
        name = own_name()
        self.values = {
            **_FAST,
            "bootstrap_servers": servers,
            "commands_topic": f"{name}.commands",
            "drains_topic": f"{name}.drains",
            "ledger_topic": f"{name}.ledger",
            "log_topic": f"{name}.log",
            "results_topic": f"{name}.results",
            "worker_group": f"{name}.worker",
            # Or a worker of another scene would free what this one's group has committed: it sees all queue topics.
            "group_template": f"{name}.dispatch.{{topic}}",
            **settings,
        }
        self.name = name
        self.servers = servers
        self.settings = Settings(**{name: value for name, value in self.values.items() if name != "log_level"})
        self.queue = f"http://{name}.invalid/.xfer.kumomta.internal"
        self.topic = topic_of(self.queue)
        self.sent: list[Sent] = []
        self.ids: list[str] = []
        self.admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                **ONE_BY_ONE,
                "linger.ms": 5,
                "batch.num.messages": 50,  # so that a drain reads more than once
                "log_level": 0,
            }
        )
        self._workers: list[WorkerProcess] = []
        self._follower: Consumer | None = None
        self._view = LedgerView()

    def __enter__(self) -> Self:
        settings = self.settings
        self.create(
            {
                settings.commands_topic: settings.commands_partitions,
                settings.drains_topic: settings.drains_partitions,
                settings.ledger_topic: ledger_width(settings.ledger_partitions),
                settings.log_topic: settings.log_partitions,
                settings.results_topic: settings.results_partitions,
                self.topic: settings.queue_partitions,
            }
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            if error is not None:
                print(f"---- log of worker {worker.pid}\n{worker.log[-6000:]}")
            worker.close()
        if self._follower is not None:
            self._follower.close()
        remove_topics(self.servers, self.name)

    # ---- topics

    def create(self, topics: Mapping[str, int]) -> None:
        """Create topics with so many partitions, and wait until they are there."""
        ledger = self.settings.ledger_topic
        wanted = [
            NewTopic(
                topic,
                count,
                self.replication,
                config={"cleanup.policy": "compact"} if topic == ledger else {"retention.ms": "-1"},
            )
            for topic, count in topics.items()
        ]
        for future in self.admin.create_topics(wanted).values():
            future.result(WAIT_S)
        for topic in topics:
            wait_until(lambda topic=topic: checker.is_ready(self.servers, topic))  # type: ignore[misc]

    def delete(self, topic: str) -> None:
        """Delete a topic, and wait until it is gone."""
        self.admin.delete_topics([topic])[topic].result(WAIT_S)
        wait_until(lambda: topic not in self.admin.list_topics(timeout=WAIT_S).topics)

    # ---- messages and commands

    def put(self, count: int, *, size: int = 200, queues: int = 4, restorable: bool = True) -> list[Sent]:
        """Put messages into the xfer queue, spread over its partitions; each partition's go to all queues."""
        messages = self.messages(count, size=size, queues=queues, restorable=restorable)
        for message in messages:
            self._produce(
                self.topic,
                message.partition,
                message.id,
                message.value,
                headers=list(message.headers),
                timestamp=message.timestamp,
            )
        self.flush()
        self.sent += messages
        return messages

    def messages(self, count: int, *, size: int = 200, queues: int = 4, restorable: bool = True) -> list[Sent]:
        """Messages to put, of the numbers after those that were put before."""
        return [self._message(len(self.sent) + n, size, queues, restorable) for n in range(count)]

    def _message(self, number: int, size: int, queues: int, restorable: bool) -> Sent:
        partitions = self.settings.queue_partitions
        tenant = f"t{number // partitions % queues}"
        domain = f"{self.name}.example"
        envelope: dict[str, Any] = {
            "sender": "s@example.com",
            "recipient": f"u{number}@{domain.upper()}",
            "meta": {"queue": self.queue, "n": 2**62 + number},
            "num_attempts": 7,
            "created": "2026-11-20T10:00:00Z",
            "due": None,
            "schedule": None,
        }
        if restorable:
            envelope["meta"]["xfer_queue_info"] = {"tenant": tenant, "num_attempts": number % 5}
        header = json.dumps(envelope).encode()
        return Sent(
            id=f"{self.name}-{number}".encode(),
            value=b"Subject: %d\r\n\r\n" % number + b"x" * size,
            headers=(("a", b"1"), ("envelope", header), ("a", b"\xff")),
            timestamp=1_790_000_000_000 + number,
            partition=number % partitions,
            queue=f"{tenant}@{domain.lower()}",
            restorable=restorable,
        )

    def publish(self, topic: str, key: bytes | None, value: bytes | None, partition: int = -1) -> None:
        """Write one record, durably."""
        self._produce(topic, partition, key, value)
        self.flush()

    def cancel(self, id: str, *, partition: int = -1, reason: str = "test") -> str:
        """Publish a cancel of the queue."""
        command = {"type": "xfer.cancel", "queue_name": self.queue, "reason": reason, "id": id}
        self.publish(self.settings.commands_topic, self.queue.encode(), json.dumps(command).encode(), partition)
        if id not in self.ids:
            self.ids.append(id)
        return id

    def _produce(self, topic: str, partition: int, key: bytes | None, value: bytes | None, **more: Any) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, partition, on_delivery=_raise, **more)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def flush(self) -> None:
        """Wait until all that was written is there."""
        assert self._producer.flush(WAIT_S) == 0

    # ---- workers

    def worker(self, *options: str, variables: Mapping[str, str] | None = None, **settings: Any) -> WorkerProcess:
        """Start a worker; it is ended with the scene."""
        values = {**self.values, **settings}
        variables = {f"XFERQ_{name.upper()}": str(value) for name, value in values.items()} | dict(variables or {})
        worker = WorkerProcess(variables, *options)
        self._workers.append(worker)
        return worker

    def workers(self, count: int, **settings: Any) -> list[WorkerProcess]:
        """Start workers, and wait until each has its share of the work."""
        workers = [self.worker(**settings) for _ in range(count)]
        share = (self.settings.commands_partitions + self.settings.drains_partitions) // count
        wait_until(lambda: all(worker.assigned == share for worker in workers))
        return workers

    def owners(self) -> dict[int, str]:
        """Which member of the workers' group has which partition of the commands topic."""
        group = self.settings.worker_group
        description = self.admin.describe_consumer_groups([group])[group].result(WAIT_S)
        return {
            where.partition: member.member_id
            for member in description.members
            for where in member.assignment.topic_partitions
            if where.topic == self.settings.commands_topic
        }

    def topic_id(self) -> str:
        """The id of the queue's topic."""
        found = self.admin.describe_topics(TopicCollection([self.topic]))[self.topic].result(WAIT_S)
        return str(found.topic_id)

    # ---- the queue's group

    @property
    def group(self) -> str:
        """The group whose offsets are the queue's heads."""
        return self.settings.group_of(self.topic)

    def committed(self) -> dict[int, int]:
        """The heads as the group has them."""
        request = ConsumerGroupTopicPartitions(
            self.group, [TopicPartition(self.topic, number) for number in range(self.settings.queue_partitions)]
        )
        answer = self.admin.list_consumer_group_offsets([request])[self.group].result(WAIT_S)
        return {where.partition: where.offset for where in answer.topic_partitions if where.offset >= 0}

    def commit(self, offsets: Mapping[int, int], topic: str | None = None) -> None:
        """Set the heads of the queue, or of another one, as an operator with Kafka's tools would."""
        topic = topic or self.topic
        group = self.settings.group_of(topic)
        request = ConsumerGroupTopicPartitions(
            group, [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        )
        answer = self.admin.alter_consumer_group_offsets([request])[group].result(WAIT_S)
        assert all(where.error is None for where in answer.topic_partitions)

    # ---- the ledger

    def ledger(self, wait_s: float = 0.0) -> LedgerView:
        """The ledger as far as it is known, after waiting for news."""
        if self._follower is None:
            self._follower = Consumer(
                {
                    "bootstrap.servers": self.servers,
                    "group.id": "watcher",
                    "isolation.level": "read_committed",
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",
                    "fetch.wait.max.ms": 10,
                    "reconnect.backoff.max.ms": 500,
                    "log_level": 0,
                }
            )
            partitions = range(ledger_width(self.settings.ledger_partitions))
            self._follower.assign([TopicPartition(self.settings.ledger_topic, number, 0) for number in partitions])
        message = self._follower.poll(wait_s)
        while message is not None:
            if message.error() is None:
                self._view.apply(
                    Found(message.topic(), message.partition(), message.offset(), message.key(), message.value(), (), 0)
                )
            message = self._follower.poll(0)
        return self._view

    def until(self, reached: Callable[[LedgerView], object], timeout_s: float = WAIT_S) -> LedgerView:
        """Follow the ledger until it says something."""
        end = deadline(timeout_s)
        while not reached(ledger := self.ledger(0.005)):
            end.check(lambda: {id: self._view.status(id) for id in self.ids})
        return ledger

    def restored(self, ledger: LedgerView) -> int:
        """How many messages the ledger says are restored."""
        return sum(step["restored"] for id in self.ids for step in ledger.progress(self.topic, id).values())

    def done(self, *ids: str, timeout_s: float = WAIT_S) -> LedgerView:
        """Wait until these commands, or all, are at their end."""
        wanted = ids or tuple(self.ids)
        return self.until(
            lambda ledger: all((ledger.status(id) or {}).get("state") in ("done", "refused") for id in wanted),
            timeout_s,
        )

    def problems(self, **options: Any) -> list[str]:
        """What the checker finds wrong.

        The status may say done before the markers of the last transaction stand in all partitions: only then do
        readers of committed records see it. Where somebody else's transaction stays open, nobody waits for that.
        """
        until = deadline(allowed_s(_MARKERS_S))
        while self.open_transactions() and not until.is_over:
            time.sleep(0.05)
        return checker.problems(
            self.servers,
            xfer_queue=self.queue,
            sent=self.sent,
            ids=self.ids,
            ledger_topic=self.settings.ledger_topic,
            log_topic=self.settings.log_topic,
            **options,
        )

    @property
    def destinations(self) -> list[str]:
        """The topics that cancels restore to."""
        return sorted({topic_of(message.queue) for message in self.sent})

    def open_transactions(self) -> list[str]:
        """Where a transaction is open: ledger, log, destinations, the queue itself."""
        there = self.admin.list_topics(timeout=WAIT_S).topics
        topics = [self.settings.ledger_topic, self.settings.log_topic, self.topic, *self.destinations]
        return checker.open_transactions(self.servers, [topic for topic in topics if topic in there])


def _raise(error: object, _: object) -> None:
    assert error is None, error
