"""A small world to run the engine in: a broker, its topics, workers, dispatchers, messages."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from streams.domain.ledger_partitions import ledger_width
from streams.domain.status import Status
from streams.domain.topic import topic_of
from streams.ledger.ledger import Ledger
from streams.settings.settings import Settings
from tests.fakes.broker import Broker
from tests.fakes.clock import now
from tests.fakes.dispatcher import FakeDispatcher
from tests.fakes.faults import Crash, Faults
from tests.fakes.kafka import FakeKafka
from tests.fakes.log import Transaction
from tests.fakes.worker import FakeWorker, WorkerGroup

XFER_QUEUE = "http://bogus.example/.xfer.kumomta.internal"
TARGET = "http://bogus.example/"
QUEUES = ("t0@a.example", "c1:t1@b.example", "c.example")
_HEARTBEAT_S = 3.0


def envelope(queue: str | None, *, saved: dict[str, Any] | None = None, **others: Any) -> bytes:
    """An envelope of a message in `queue`; in an xfer queue, with what was saved."""
    meta: dict[str, Any] = {} if queue is None else {"queue": queue}
    if saved is not None:
        meta["xfer_queue_info"] = saved
    fields = {
        "sender": "s@example.com",
        "recipient": "r@example.org",
        "meta": meta,
        "num_attempts": 2,
        "created": "2026-11-20T09:00:00Z",
        "due": None,
        "schedule": None,
    }
    return orjson.dumps(fields | others)


class World:
    """Made within the running loop, whose time should jump."""

    def __init__(self, *, partitions: int = 2, **settings: Any) -> None:
        names: dict[str, Any] = {
            "commands_partitions": 2,
            "drains_partitions": 2,
            "ledger_partitions": 3,
            "log_partitions": 2,
            "results_partitions": 2,
            "queue_partitions": partitions,
            "transaction_messages": 3,
            "transaction_timeout_ms": 5_000,
            "stalled_ms": 3_000,
            "space_s": 5.0,
            "gone_s": 2.5,
            "metrics_queues": 0,
            "node_id": "00000000-0000-4000-8000-000000000000",
        }
        self.settings = Settings(**(names | settings))
        self.broker = Broker(now_ms=lambda: int(now().timestamp() * 1000))
        self.workers: list[FakeWorker] = []
        self.dispatchers: list[FakeDispatcher] = []
        self.group = WorkerGroup()
        self.injected: dict[str, str] = {}
        """Message ids, with the queue that each was injected into."""
        self.problems: list[str] = []
        self.ledger = Ledger(FakeKafka(self.broker, self.settings), self.settings)
        self._count = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._log = _Problems(self.problems)
        for name, count in (
            (self.settings.commands_topic, self.settings.commands_partitions),
            (self.settings.drains_topic, self.settings.drains_partitions),
            (self.settings.ledger_topic, ledger_width(self.settings.ledger_partitions)),
            (self.settings.log_topic, self.settings.log_partitions),
            (self.settings.results_topic, self.settings.results_partitions),
        ):
            self.broker.create(name, count)

    async def __aenter__(self) -> "World":
        logging.getLogger("streams").addHandler(self._log)
        asyncio.get_running_loop().set_exception_handler(self._unexpected)
        await self.ledger.start()
        self._tasks.append(asyncio.create_task(self._heartbeats()))
        return self

    async def __aexit__(self, *_: object) -> None:
        logging.getLogger("streams").removeHandler(self._log)
        for worker in self.workers:
            worker.kill()
        await asyncio.sleep(3)  # by then all that was theirs has noticed
        for task in self._tasks:
            task.cancel()
        await self.ledger.stop()

    def _unexpected(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), Crash):
            self.problems.append(f"{context.get('message')}: {context.get('exception')!r}")

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            for dispatcher in self.dispatchers:
                dispatcher.heartbeat()

    # ---- who is there

    def worker(self, faults: Faults | None = None, **options: Any) -> FakeWorker:
        """Start a worker; it takes all partitions."""
        worker = FakeWorker(self.broker, self.group, self.settings, faults, **options)
        self.workers.append(worker)
        worker.start()
        return worker

    def dispatcher(self, queue: str = XFER_QUEUE) -> FakeDispatcher:
        """A dispatcher of the queue, not yet in its group."""
        topic = topic_of(queue)
        dispatcher = FakeDispatcher(self.broker, self.settings.group_of(topic), topic)
        self.dispatchers.append(dispatcher)
        return dispatcher

    # ---- what goes in

    def queue(self, queue: str = XFER_QUEUE, partitions: int | None = None) -> str:
        """Make sure that the queue's topic exists; its name."""
        topic = topic_of(queue)
        self.broker.create(topic, partitions or self.settings.queue_partitions)
        return topic

    def inject(
        self,
        count: int,
        queue: str = XFER_QUEUE,
        *,
        headers: Callable[[str], list[tuple[str, bytes]]] | None = None,
        value: bytes = b"Subject: x\r\n\r\nbody",
    ) -> list[str]:
        """Write messages into the queue, over its partitions in turn; their ids."""
        topic = self.queue(queue)
        ids = []
        for _ in range(count):
            self._count += 1
            id = f"m{self._count}"
            made = headers(id) if headers else self._headers(queue)
            logs = self.broker.topics[topic].logs
            logs[self._count % len(logs)].append([(1_000 + self._count, id.encode(), value, made)])
            self.injected[id] = queue
            ids.append(id)
        return ids

    def _headers(self, queue: str) -> list[tuple[str, bytes]]:
        if queue.endswith(".xfer.kumomta.internal"):
            home = QUEUES[self._count % len(QUEUES)]
            made = envelope(queue, saved={"queue": home, "num_attempts": 1})
        else:
            made = envelope(queue)
        return [("before", b"1"), ("envelope", made), ("after", b"2"), ("after", b"3")]

    def inject_open(self, count: int, queue: str = XFER_QUEUE) -> "Open":
        """Write messages in a transaction that stays open until it is told."""
        topic = self.queue(queue)
        transaction = Transaction()
        ids = []
        for _ in range(count):
            self._count += 1
            ids.append(f"m{self._count}")
            logs = self.broker.topics[topic].logs
            row = (1_000 + self._count, ids[-1].encode(), b"x", self._headers(queue))
            logs[self._count % len(logs)].append([row], transaction)
        return Open(self, transaction, queue, ids)

    def publish(
        self, command: bytes | dict[str, Any] | None, partition: int = 0, headers: Sequence[tuple[str, bytes]] = ()
    ) -> None:
        """Write a record to the commands topic."""
        value = orjson.dumps(command) if isinstance(command, dict) else command
        log = self.broker.topics[self.settings.commands_topic].logs[partition]
        log.append([(self.broker.now_ms(), b"key", value, tuple(headers))])

    def cancel(self, id: str = "c1", queue: str = XFER_QUEUE, reason: str = "why", partition: int = 0) -> None:
        """Publish a cancel."""
        self.publish({"type": "xfer.cancel", "queue_name": queue, "reason": reason, "id": id}, partition)

    def transfer(self, id: str = "s1", partition: int = 0, **criteria: Any) -> None:
        """Publish a transfer to the target."""
        self.publish({"type": "xfer.start", "target": TARGET, "reason": "why", "id": id} | criteria, partition)

    def publish_task(self, topic: str, partition: int) -> None:
        """Publish a drain task."""
        log = self.broker.topics[self.settings.drains_topic].logs[partition % self.settings.drains_partitions]
        log.append([(0, b"key", orjson.dumps({"topic": topic, "partition": partition, "claim": "?"}), ())])

    # ---- what comes of it

    async def status(self, id: str) -> Status | None:
        """The command's status, all that is in the ledger considered."""
        await self.ledger.barrier_all()
        return self.ledger.status(id)

    async def until(self, condition: Callable[[], bool], within_s: float = 600.0) -> None:
        """Wait for it to become true."""
        pause_s = 0.05
        async with asyncio.timeout(within_s):
            while not condition():
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 1.02, 1.0)  # whoever waits for an hour need not know to the tenth

    async def ended(self, *ids: str, within_s: float = 600.0) -> Status:
        """Wait until the recorded status of all these commands is done or refused; the last one's."""

        def have_ended() -> bool:
            found = [self.ledger.recorded_status(id) for id in ids]
            return all(status is not None and status.state in ("done", "refused") for status in found)

        await self.until(have_ended, within_s)
        status = self.ledger.recorded_status(ids[-1])
        if status is None:
            raise AssertionError(ids[-1])
        return status


class Open:
    """A transaction of somebody who injects messages."""

    def __init__(self, world: World, transaction: Transaction, queue: str, ids: list[str]) -> None:
        self.ids = ids
        self._world = world
        self._transaction = transaction
        self._queue = queue

    def decide(self, *, commit: bool) -> list[str]:
        """Commit or abort; the messages that are there now."""
        self._world.broker.decide(self._transaction, commit=commit)
        there = self.ids if commit else []
        self._world.injected |= dict.fromkeys(there, self._queue)
        return there


class _Problems(logging.Handler):
    """Bugs that the engine outlives, as it should, show in its log only."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._problems = problems

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[0] is not None and issubclass(record.exc_info[0], Exception):
            self._problems.append(f"{record.getMessage()}: {record.exc_info[1]!r}")
