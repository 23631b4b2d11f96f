"""A broker, topics with names of their own for each measurement, and a worker as a process."""

import asyncio
import itertools
import os
import re
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import ConsumerGroupState

from streams.domain.command import CancelCommand
from streams.domain.status import Status
from streams.domain.topic import topic_of
from streams.domain.transitions import ENDED
from streams.errors import Unavailable
from streams.kafka.cluster import Cluster
from streams.kafka.layout import apply_layout
from streams.kafka.topics import QUEUE_CONFIG, Topics
from streams.ledger.ledger import Ledger
from streams.settings.settings import Settings
from tests.bench.contenders.contender import NODE_ID, REASON, Job, Ranges, Source, parallel
from tests.bench.load import XFER_QUEUE, fill, scheduled_queues
from tests.bench.stopwatch import Measured, Stopwatch, family_of, processor_s

_numbers = itertools.count(1)
_LOG_PARTITIONS = 4
_WARM_UP_QUEUES = 4
_DELETED_AT_ONCE = 500


class World:
    """One measurement's settings, topics and messages; `cancel` drives a worker through it."""

    def __init__(
        self,
        bootstrap: str,
        *,
        broker_pid: int | None = None,
        partitions: int = 4,
        transaction: int | None = None,
        **settings: Any,
    ) -> None:
        """Names and settings; nothing is made yet.

        Args:
            bootstrap: the broker.
            broker_pid: its process, where its time is to be measured.
            partitions: of the xfer queue.
            transaction: most messages in a transaction, for every contender; None for xferq's default.
            settings: of xferq, in place of its defaults.
        """
        self.number = next(_numbers)
        name = self.name = f"bench{self.number}"
        if transaction is not None:
            settings["transaction_messages"] = transaction
        self.settings = Settings(
            bootstrap_servers=bootstrap,
            commands_topic=f"{name}.commands",
            drains_topic=f"{name}.drains",
            ledger_topic=f"{name}.ledger",
            log_topic=f"{name}.log",
            results_topic=f"{name}.results",
            worker_group=name,
            node_id=uuid.UUID(NODE_ID),
            log_partitions=_LOG_PARTITIONS,
            metrics_port=0,
            **settings,
        )
        self.bootstrap = bootstrap
        self.stopwatch = Stopwatch(broker_pid)
        self.partitions = partitions
        self.queue = XFER_QUEUE.replace("bench", name)
        self.topic = topic_of(self.queue)
        self.warm_up_queue = XFER_QUEUE.replace("bench", f"{name}-warm-up")
        self.warm_up_topic = topic_of(self.warm_up_queue)
        self.warm_up_log = f"{name}.warm-up.log"
        self.copies = f"{name}.copies"
        self.warm_up_copies = f"{name}.warm-up.copies"
        self.other = f"http://nowhere{self.number}.invalid/.xfer.kumomta.internal"
        """A queue that does not exist: its cancel is refused, once the worker is up."""
        self.made: list[str] = []
        """Xfer queues that were made besides."""
        self.cluster = Cluster(self.settings)
        self.ledger = Ledger(self.cluster, self.settings)

    @asynccontextmanager
    async def opened(self, *, queues: int = 0, warm_up: int = 0) -> AsyncIterator["World"]:
        """Create the topics, those of `queues` scheduled queues among them, and follow the ledger.

        With `warm_up`, another xfer queue is there and has so many messages.
        """
        settings = self.settings
        destinations = [*map(topic_of, scheduled_queues(queues, self.name))]
        sources = {self.topic: self.partitions}
        if warm_up:
            destinations += map(topic_of, scheduled_queues(_WARM_UP_QUEUES, f"warm-up.{self.name}"))
            copying = (self.warm_up_topic, self.copies, self.warm_up_copies)
            sources |= dict.fromkeys(copying, self.partitions)
            sources[self.warm_up_log] = _LOG_PARTITIONS
        async with self.cluster:
            topics = Topics(self.cluster.connection)
            await apply_layout(self.cluster.connection, settings)
            await topics.create(sources, QUEUE_CONFIG, 1)
            await self.cluster.create(destinations)
            for name in sources:
                while await self.cluster.topic(name) is None:
                    await asyncio.sleep(0.1)
            await self._start_ledger()
            if warm_up:
                await asyncio.to_thread(self._fill_warm_up, warm_up)
            try:
                yield self
            finally:
                await self.ledger.stop()
                for start in range(0, len(destinations), _DELETED_AT_ONCE):
                    await topics.delete(destinations[start : start + _DELETED_AT_ONCE])
                await topics.delete([*sources, *map(topic_of, self.made), settings.log_topic])

    async def _start_ledger(self) -> None:
        while True:
            try:
                return await self.ledger.start()
            except Unavailable:
                await asyncio.sleep(0.2)  # the topic is new

    async def filled(
        self, messages: int, *, size: int = 2048, queues: int = 16, compression: str = "none", metadata: int = 0
    ) -> None:
        """Put messages into the xfer queue."""
        await asyncio.to_thread(
            fill,
            self.bootstrap,
            self.topic,
            messages=messages,
            size=size,
            partitions=self.partitions,
            queues=queues,
            family=self.name,
            xfer_queue=self.queue,
            compression=compression,
            metadata=metadata,
        )

    def _fill_warm_up(self, messages: int) -> None:
        fill(
            self.bootstrap,
            self.warm_up_topic,
            messages=messages,
            size=2048,
            partitions=self.partitions,
            queues=_WARM_UP_QUEUES,
            family=f"warm-up.{self.name}",
            xfer_queue=self.warm_up_queue,
        )

    async def job(self, contender: str) -> Job:
        """What a contender other than xferq is to do: all that is in the two xfer queues now."""
        return Job(
            bootstrap=self.bootstrap,
            name=f"{self.name}.{contender}",
            drain=Source(self.topic, self.queue, self.settings.log_topic, self.copies, await self._ranges(self.topic)),
            warm_up=Source(
                self.warm_up_topic,
                self.warm_up_queue,
                self.warm_up_log,
                self.warm_up_copies,
                await self._ranges(self.warm_up_topic),
            ),
            transaction=self.settings.transaction_messages,
            destination_partitions=self.settings.queue_partitions,
            log_partitions=_LOG_PARTITIONS,
            threads=parallel(),
        )

    async def _ranges(self, topic: str) -> Ranges:
        ends = await self.cluster.stable_ends(topic, range(self.partitions))
        return {partition: (0, end) for partition, end in ends.items()}

    async def log_end(self) -> int:
        """How many offsets the log has in all: records, and a marker for each transaction and partition."""
        ends = await self.cluster.stable_ends(self.settings.log_topic, range(_LOG_PARTITIONS))
        return sum(ends.values())

    @contextmanager
    def worker(self) -> Iterator["Process"]:
        """A worker process."""
        with self._process("worker") as worker:
            yield worker

    @contextmanager
    def api(self, port: int) -> Iterator[str]:
        """An api process; its address."""
        with self._process("api", "--port", str(port)):
            yield f"http://127.0.0.1:{port}"

    @contextmanager
    def _process(self, *command: str) -> Iterator["Process"]:
        process = subprocess.Popen(
            [sys.executable, "-c", "from api.cli import main; main()", *command],
            env=os.environ | self.settings.as_variables(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield Process(process)
        finally:
            process.terminate()
            process.wait(20)

    async def shared_out(self) -> None:
        """Wait until every process of the worker is a member of its group and has its share of the partitions."""
        admin = self.cluster.connection.admin
        group = self.settings.worker_group
        while True:
            found = await asyncio.wrap_future(admin.describe_consumer_groups([group])[group])
            shares = [len(member.assignment.topic_partitions) for member in found.members]
            if (
                found.state is ConsumerGroupState.STABLE
                and len(shares) == self.settings.worker_processes
                and min(shares) * 2 > max(shares)
            ):
                return
            await asyncio.sleep(0.05)

    async def all_done(self) -> None:
        """Wait until every command has ended."""
        while any(self.ledger.status(status.id).state not in ENDED for status in self.ledger.statuses()):  # type: ignore[union-attr]
            await asyncio.sleep(0.1)

    async def cancel(
        self, id: str, queue: str | None = None, worker: "Process | None" = None
    ) -> tuple[Status, Measured]:
        """Cancel the transfer; the status at its end, and what the worker took from the claim to it."""
        queue = queue or self.queue
        command = CancelCommand(queue_name=queue, reason=REASON, id=id)
        await self.cluster.publish(self.settings.commands_topic, [(queue.encode(), command.to_bytes())])
        is_claimed = False
        while True:
            status = self.ledger.status(id)
            if not is_claimed and status is not None and status.state in ("claimed", *ENDED):
                is_claimed = True
                self.stopwatch.start([] if worker is None else [worker.pid])
            if status is not None and status.state in ENDED:
                return status, self.stopwatch.stop()
            await asyncio.sleep(0.002)


class Process:
    """A process that is being measured."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Of the first of them."""
        return self._process.pid

    def cpu_s(self) -> float:
        """The processor time that it and its children have taken so far, in seconds (Linux)."""
        return processor_s(family_of(self.pid))

    def peak_memory_mb(self) -> float:
        """The most resident memory that it and its children have had, in MB (Linux)."""
        statuses = [Path(f"/proc/{one}/status").read_text() for one in family_of(self.pid)]
        return sum(int(found[1]) / 1024 for status in statuses if (found := re.search(r"VmHWM:\s+(\d+) kB", status)))


async def answers(url: str) -> None:
    """Wait until somebody listens there, and a second more."""
    host, port = url.removeprefix("http://").split(":")
    while True:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            await asyncio.sleep(0.1)
        else:
            writer.close()
            await asyncio.sleep(1)
            return
