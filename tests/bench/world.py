"""A broker, topics with names of their own for each measurement, and a worker as a process."""

import asyncio
import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx

from streams.domain.claim import Claim
from streams.domain.command import CancelCommand
from streams.domain.status import ENDED, Status
from streams.domain.topic import topic_of
from streams.errors import Unavailable
from streams.kafka.cluster import Cluster
from streams.kafka.layout import apply_layout
from streams.kafka.topics import QUEUE_CONFIG, Topics
from streams.ledger import Ledger
from streams.settings import Settings
from tests.bench.load import XFER_QUEUE, fill, scheduled_queues

_numbers = itertools.count(1)


class World:
    """One measurement's settings, topics and messages; `cancel` drives a worker through it."""

    def __init__(self, bootstrap: str, **settings: Any) -> None:
        self.number = next(_numbers)
        name = f"bench{self.number}"
        self.settings = Settings(
            bootstrap_servers=bootstrap,
            commands_topic=f"{name}.commands",
            drains_topic=f"{name}.drains",
            ledger_topic=f"{name}.ledger",
            log_topic=f"{name}.log",
            worker_group=name,
            log_partitions=4,
            metrics_port=0,
            **settings,
        )
        self.bootstrap = bootstrap
        self.queue = XFER_QUEUE.replace("bench", name)
        self.topic = topic_of(self.queue)
        self.other = f"http://nowhere{self.number}.invalid/.xfer.kumomta.internal"
        """A queue that does not exist: its cancel is refused, once the worker is up."""
        self.cluster = Cluster(self.settings)
        self.ledger = Ledger(self.cluster, self.settings)

    @asynccontextmanager
    async def opened(self, *, queues: int = 0, family: str = "common") -> AsyncIterator["World"]:
        """Create the topics, those of `queues` scheduled queues among them, and follow the ledger."""
        settings = self.settings
        async with self.cluster:
            topics = Topics(self.cluster.connection)
            await apply_layout(self.cluster.connection, settings)
            await topics.create({self.topic: 4}, QUEUE_CONFIG, 1)
            await self.cluster.create([*map(topic_of, scheduled_queues(queues, family))])
            while await self.cluster.topic(self.topic) is None:
                await asyncio.sleep(0.1)
            await self._start_ledger()
            try:
                yield self
            finally:
                await self.ledger.stop()
                await topics.delete([self.topic, settings.log_topic])

    async def _start_ledger(self) -> None:
        while True:
            try:
                return await self.ledger.start()
            except Unavailable:
                await asyncio.sleep(0.2)  # the topic is new

    def fill(self, messages: int, *, size: int = 2048, queues: int = 16, family: str = "common") -> None:
        """Put messages into the xfer queue."""
        fill(self.bootstrap, self.topic, messages=messages, size=size, partitions=4, queues=queues, family=family)

    async def claim(self) -> Claim:
        """What a claim would take, for contenders that don't claim."""
        ends = await self.cluster.stable_ends(self.topic, range(4))
        return Claim(
            id="bench",
            kind="xfer.cancel",
            topic=self.topic,
            topic_id="",
            queue=self.queue,
            xfer_queue=self.queue,
            reason="bench",
            group="bench",
            ranges={partition: (0, end) for partition, end in ends.items()},
            claimed_at="",
        )

    async def posted_to_claimed_s(self, url: str) -> float:
        """Cancel over HTTP; seconds from the answer to the claim being there for everybody to read."""
        async with httpx.AsyncClient() as client:
            answer = await client.post(
                f"{url}/api/admin/xfer/cancel/v1", json={"queue_name": self.queue, "reason": "bench"}
            )
        answered = time.perf_counter()
        answer.raise_for_status()
        id = answer.headers["X-Command-Id"]
        while (status := self.ledger.status(id)) is None or status.claimed_at is None:
            await asyncio.sleep(0.001)
        return time.perf_counter() - answered

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
        variables = {f"XFERQ_{k.upper()}": str(v) for k, v in self.settings.model_dump(exclude_defaults=True).items()}
        process = subprocess.Popen(
            [sys.executable, "-c", "from api.cli import main; main()", *command],
            env={**os.environ, **variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield Process(process)
        finally:
            process.terminate()
            process.wait(20)

    async def all_done(self) -> None:
        """Wait until every command has ended."""
        while any(self.ledger.status(status.id).state not in ENDED for status in self.ledger.statuses()):  # type: ignore[union-attr]
            await asyncio.sleep(0.1)

    async def cancel(self, id: str, queue: str | None = None) -> tuple[Status, float]:
        """Cancel the transfer; the status at its end and the seconds from the claim to it."""
        queue = queue or self.queue
        command = CancelCommand(queue_name=queue, reason="bench", id=id)
        await self.cluster.publish(self.settings.commands_topic, [(queue.encode(), command.to_bytes())])
        claimed_at = None
        while True:
            status = self.ledger.status(id)
            if claimed_at is None and status is not None and status.state in ("claimed", "done"):
                claimed_at = time.perf_counter()
            if status is not None and status.state in ENDED:
                return status, time.perf_counter() - (claimed_at or time.perf_counter())
            await asyncio.sleep(0.002)


class Process:
    """A process that is being measured."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def peak_memory_mb(self) -> float:
        """The most resident memory that it and its children have had, in MB (Linux)."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        statuses = [Path(f"/proc/{one}/status").read_text() for one in (pid, *children)]
        return sum(int(found[1]) / 1024 for status in statuses if (found := re.search(r"VmHWM:\s+(\d+) kB", status)))
