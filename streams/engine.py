"""The engine: everything that a worker does, put together; `streams.agents` feeds it."""

import asyncio
import logging
import zlib
from collections.abc import Callable, Collection
from datetime import UTC, datetime

import orjson

from streams.claim import Claimer
from streams.commands import CommandRecord, Commands
from streams.domain.command import InvalidCommand
from streams.domain.topic import is_queue_topic
from streams.domain.trace import trace_of
from streams.drain import Drainer
from streams.errors import Abandoned, XferqError
from streams.health import Health
from streams.held import HeldBack
from streams.keeper import Keeper
from streams.lanes import Lanes
from streams.ledger import Ledger
from streams.ports import Kafka
from streams.settings import Settings
from streams.traces import COMMAND_ID, NO_TRACES, OUTCOME, QUEUE, Span, Traces, about_record

_log = logging.getLogger(__name__)
_PATIENCE_S = 60.0
"""How long a task of a drain that can't get on holds up the acknowledgements behind it."""
_PATIENCE_OF_LOOKS_S = 5.0
_EDGE_S = 1.0


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


class Engine:
    """Carries out commands and drain tasks: side by side across queues, in order within one."""

    def __init__(
        self,
        kafka: Kafka,
        settings: Settings,
        now: Callable[[], datetime] = utc_now,
        health: Health | None = None,
        traces: Traces = NO_TRACES,
    ) -> None:
        self.health = health or Health()
        self._settings = settings
        self._traces = traces
        self._stopping = False
        self._shares: frozenset[int] = frozenset()
        self.ledger = Ledger(kafka, settings)
        self.claimer = Claimer(kafka, self.ledger, settings, now)
        self.commands = Commands(kafka, self.ledger, self.claimer, settings, now, self.health, traces)
        self.drainer = Drainer(kafka, self.ledger, settings, now, self.health, traces)
        self.keeper = Keeper(kafka, self.ledger, self.claimer, self.commands, settings, now, self.is_mine)
        self._held_back = HeldBack(kafka, settings, self.health)
        self._command_lanes = Lanes(settings.concurrent_claims)
        self._drain_lanes = Lanes()  # how many work at a time, the drainer sees to
        self._in_hand: dict[tuple[str, int, str], Callable[[], bool]] = {}
        self._drains: set[asyncio.Task[bool]] = set()

    async def start(self) -> None:
        """Read the ledger, begin the standing work."""
        await self.ledger.start()
        self.keeper.start()

    async def look(self) -> None:
        """See that Kafka answers, that the ledger is followed, and what holds back commands; every few seconds.

        Raises:
            Unavailable: Kafka does not answer, or the ledger is not followed.
        """
        await self.ledger.look()
        try:
            async with asyncio.timeout(_PATIENCE_OF_LOOKS_S):
                await self._held_back.look()
        except (XferqError, TimeoutError) as error:
            # One partition of these topics that nobody leads: no reason to be taken for one that can't work.
            self.health.notes("inputs", f"whether commands or drain tasks are held back can't be seen: {error!r}")
        else:
            self.health.notes("inputs", None)

    async def stop(self) -> None:
        """End the standing work. Stop feeding and let running work reach its edge before: `begin_stop`."""
        self.begin_stop()
        if self._drains:
            _, late = await asyncio.wait(self._drains, timeout=_EDGE_S)
            for drain in late:
                drain.cancel()
        await self.keeper.stop()
        await self.claimer.stop()
        await self.ledger.stop()

    def begin_stop(self) -> None:
        """From now on, work stops at the next edge of a transaction and is left to others."""
        self._stopping = True

    def take_shares(self, shares: Collection[int]) -> None:
        """These partitions of the commands topic are ours now: they also share out the standing work."""
        self._shares = frozenset(shares)

    @property
    def shares(self) -> frozenset[int]:
        """The partitions of the commands topic that are ours."""
        return self._shares

    def is_mine(self, topic: str) -> bool:
        """Whether the standing work for this queue topic is ours: every one is somebody's."""
        return zlib.crc32(topic.encode()) % self._settings.commands_partitions in self._shares

    async def on_command(self, record: CommandRecord, is_ours: Callable[[], bool]) -> bool:
        """Carry out one record of the commands topic; whether it may be acknowledged."""

        def go_on() -> bool:
            return is_ours() and not self._stopping

        about = about_record(record.topic, "process", kind="process", partition=record.partition)
        about |= {"messaging.kafka.offset": record.offset, "messaging.consumer.group.name": self._settings.worker_group}
        with self._traces.span(f"process {record.topic}", "consumer", about, trace_of(record.headers)) as span:
            return await self._on_command(record, go_on, span)

    async def _on_command(self, record: CommandRecord, go_on: Callable[[], bool], span: Span) -> bool:
        try:
            command = self.commands.parse(record)
        except InvalidCommand as error:
            span.set({COMMAND_ID: error.id, OUTCOME: "refused"})
            return await self._refuse(record, error, go_on)
        span.set({COMMAND_ID: command.id, QUEUE: command.queue, "xferq.command.type": command.type})
        try:
            async with self._command_lanes.lane(command.queue):
                span.set({OUTCOME: await self.commands.carry_out(command, record, go_on)})
        except Abandoned:
            span.set({OUTCOME: "abandoned"})
            return False
        return True

    async def _refuse(self, record: CommandRecord, error: InvalidCommand, go_on: Callable[[], bool]) -> bool:
        while go_on():
            try:
                await self.commands.refuse(record, error)
            except XferqError as failure:
                _log.warning("command.again id=%s error=%s", error.id, failure)
                await asyncio.sleep(1)
            else:
                return True
        return False

    async def on_task(self, value: bytes | None, is_ours: Callable[[], bool]) -> bool:
        """Drain what one task points at; whether it may be acknowledged."""
        try:
            task = orjson.loads(value or b"")
            topic, partition, id = str(task["topic"]), int(task["partition"]), str(task.get("claim"))
            if not is_queue_topic(topic):
                raise ValueError
        except (KeyError, TypeError, ValueError):
            _log.error("drain.task_unreadable value=%r", (value or b"")[:200])
            return True
        return await self._drain(topic, partition, id, lambda: is_ours() and not self._stopping)

    async def _drain(self, topic: str, partition: int, id: str, go_on: Callable[[], bool]) -> bool:
        """Drain, for one task; whether that may be acknowledged.

        A task is a nudge: while its claim shows no progress, the keeper publishes it again. So one that comes while
        it is in hand is acknowledged at once, and one that can't get on for long as well, though it is tried on and
        on: its drains partition would otherwise never get further, and after some days nothing would come any more.
        """
        key = topic, partition, id
        in_hand = self._in_hand.get(key)
        if in_hand is not None and in_hand():
            return True
        self._in_hand[key] = go_on
        drain = asyncio.create_task(self._drain_on(topic, partition, id, go_on))
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)
        drain.add_done_callback(lambda _: self._in_hand.pop(key) if self._in_hand.get(key) is go_on else None)
        try:
            while not drain.done():
                await asyncio.wait([drain], timeout=_PATIENCE_S / 2)
                if not drain.done() and self.health.waited_s(f"drain {topic}/{partition}") > _PATIENCE_S:
                    _log.warning(
                        "drain.left id=%s topic=%s partition=%d: tried on, its task acknowledged", id, topic, partition
                    )
                    drain.add_done_callback(_say_failure)
                    return True
        except asyncio.CancelledError:
            drain.cancel()
            raise
        return drain.result()

    async def _drain_on(self, topic: str, partition: int, id: str, go_on: Callable[[], bool]) -> bool:
        try:
            async with self._drain_lanes.lane(f"{topic}/{partition}"):
                if self._is_drained(topic, partition, id):
                    return True
                claims = await self.drainer.drain(topic, partition, go_on)
        except Abandoned:
            return False
        for claim in claims:
            await self._after_drain(claim.id, claim.topic)
        return True

    def _is_drained(self, topic: str, partition: int, id: str) -> bool:
        """Whether the task's range is known to be done: a task comes again and again while its range waits.

        For sure, however old our view of the ledger is: done stays done, and another claim has its own task.
        """
        claim = self.ledger.claim(topic, id)
        return claim is not None and partition not in self.ledger.unfinished_partitions(claim)

    async def _after_drain(self, id: str, topic: str) -> None:
        """What the keeper would find out later by itself, done at once."""
        try:
            await self.commands.finish(id)
            await self.keeper.free(topic)
        except XferqError as error:
            _log.info("drain.unrecorded id=%s error=%s", id, error)


def _say_failure(drain: "asyncio.Task[bool]") -> None:
    if not drain.cancelled() and (error := drain.exception()) is not None:
        _log.error("drain.failed: its task comes again", exc_info=error)
