"""A worker: an engine, and what Faust would do for it, on the real `AckQueue`."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from faust.types import TP

from streams.commands.command_record import CommandRecord
from streams.errors import XferqError
from streams.settings.settings import Settings
from streams.worker.agents import AckQueue, Owns, Work
from streams.worker.engine import Engine
from tests.fakes.broker import Broker
from tests.fakes.clock import now
from tests.fakes.faults import Crash, Faults
from tests.fakes.kafka import FakeKafka
from tests.fakes.log import FakeRecord

_POLL_S = 1.0


@dataclass(slots=True)
class FakeMessage:
    """What the hand-off asks of an event's message."""

    tp: TP
    offset: int

    @property
    def topic(self) -> str:
        return str(self.tp.topic)


@dataclass(slots=True)
class FakeEvent:
    """An event of Faust's, as far as the hand-off looks at it."""

    message: FakeMessage
    on_ack: Callable[[TP, int], None]

    def ack(self) -> None:
        self.on_ack(self.message.tp, self.message.offset)


@dataclass(eq=False)
class WorkerGroup:
    """The consumer group of the workers: what is acknowledged, and who has which partition."""

    offsets: dict[TP, int] = field(default_factory=lambda: defaultdict(int))
    owners: dict[TP, "FakeWorker"] = field(default_factory=dict)
    acked_at: dict[tuple[TP, int], float] = field(default_factory=dict)
    """When each event was acknowledged."""


class FakeWorker:
    """An engine that is fed the records of the partitions that it has been given, until it crashes.

    Without `drains` it has no share of the drains; `repeat_tasks` announces each so many times more. Its clock is
    `wrong_by` so much.
    """

    def __init__(
        self,
        broker: Broker,
        group: WorkerGroup,
        settings: Settings,
        faults: Faults | None = None,
        *,
        at_a_time: int = 4,
        drains: bool = True,
        repeat_tasks: int = 0,
        wrong_by: timedelta = timedelta(0),
    ) -> None:
        self.faults = faults or Faults()
        kafka = FakeKafka(broker, settings, self.faults, at_a_time=at_a_time)
        self.engine = Engine(kafka, settings, lambda: now() + wrong_by)
        self.acked: list[tuple[TP, int]] = []
        self._broker = broker
        self._group = group
        self._settings = settings
        self._acks = AckQueue()
        self._feeding: dict[TP, asyncio.Task[None]] = {}
        self._starting: asyncio.Task[None] | None = None
        self._drains = drains
        self._repeat_tasks = repeat_tasks

    def start(self) -> None:
        """Begin; with every partition of both topics, taken from whoever has them."""
        self._starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        while True:
            try:
                await self.engine.start()
                break
            except XferqError:
                await asyncio.sleep(0.5)
            except Crash:
                return
        self.take([TP(topic, p) for topic in self._topics() for p in range(len(self._broker.topics[topic].logs))])

    def _topics(self) -> tuple[str, str]:
        return self._settings.commands_topic, self._settings.drains_topic

    def take(self, partitions: list[TP]) -> None:
        """Get these partitions; who had them before loses them."""
        for tp in partitions:
            owner = self._group.owners.get(tp)
            if owner is not None:
                owner.lose([tp])
            self._group.owners[tp] = self
            self._feeding[tp] = asyncio.create_task(self._feed(tp))
        self._share()

    def lose(self, partitions: list[TP]) -> None:
        """These partitions are revoked."""
        for tp in partitions:
            self._feeding.pop(tp).cancel()
            self._group.owners.pop(tp, None)
        self._acks.drop(set(partitions))
        self._share()

    def _share(self) -> None:
        commands, drains = (
            [tp.partition for tp in self._feeding if tp.topic == topic]
            for topic in (self._settings.commands_topic, self._settings.drains_topic)
        )
        self.engine.take_shares(commands, drains if self._drains else ())

    def begin_drains(self) -> None:
        """Get a share of the drains from now on."""
        self._drains = True
        self._share()

    async def _feed(self, tp: TP) -> None:
        at = self._group.offsets[tp]
        while not self.faults.dead:
            topic = self._broker.topics[tp.topic]
            log = topic.logs[tp.partition]
            for record in list(log.records(at, log.end)):
                at = record.offset + 1
                await self._hand_over(tp, record)
            await topic.changes.wait(_POLL_S)

    async def _hand_over(self, tp: TP, record: FakeRecord) -> None:
        event: Any = FakeEvent(FakeMessage(tp, record.offset), self.acknowledge)
        if tp.topic == self._settings.commands_topic:
            command = CommandRecord(
                tp.topic, tp.partition, record.offset, record.timestamp, record.value, record.headers
            )
            await self._acks.submit(event, self._command(command))
        else:
            for _ in range(1 + self._repeat_tasks):
                self.engine.on_task(record.value)
            event.ack()

    def _command(self, record: CommandRecord) -> Work:
        async def work(owns: Owns, wanted: asyncio.Future[None]) -> bool:
            return await self.engine.on_command(record, owns, wanted)

        return work

    def acknowledge(self, tp: TP, offset: int) -> None:
        """Faust commits; refused for a partition that this worker does not have."""
        self.faults.alive()
        if self._group.owners.get(tp) is not self:
            raise AssertionError(f"acknowledged {tp} {offset} after it was revoked")
        if offset != self._group.offsets[tp]:
            raise AssertionError(f"acknowledged {tp} {offset} while {self._group.offsets[tp]} is not")
        self._group.offsets[tp] = offset + 1
        self._group.acked_at[(tp, offset)] = asyncio.get_running_loop().time()
        self.acked.append((tp, offset))

    def unacknowledged(self) -> Iterator[tuple[TP, int]]:
        """What has been published and not been acknowledged, by whichever worker."""
        for topic in self._topics():
            for partition, log in enumerate(self._broker.topics[topic].logs):
                for record in log.records(self._group.offsets[TP(topic, partition)], log.end):
                    yield TP(topic, partition), record.offset

    def kill(self) -> None:
        """As kill -9."""
        self.faults.crash()
        for tp in list(self._feeding):
            self._feeding.pop(tp).cancel()
            self._group.owners.pop(tp, None)

    async def stop(self) -> None:
        """As SIGTERM."""
        if self._starting is not None:
            self._starting.cancel()
        self.engine.begin_stop()
        await self._acks.idle(60)
        await self.engine.drains.idle(60)
        await self.engine.pending.idle(60)
        self.lose(list(self._feeding))
        await self.engine.stop()
