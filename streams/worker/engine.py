"""The engine: everything that a worker does, put together; `streams.worker.agents` feeds it."""

import asyncio
import logging
import zlib
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

import orjson
from opentelemetry.trace import Span, SpanKind

from streams.claim.claimer import Claimer
from streams.commands.command_record import CommandRecord
from streams.commands.commands import Commands
from streams.commands.context import CommandContext
from streams.commands.pending import Pending
from streams.concurrency.ending import Background
from streams.domain.command import InvalidCommand
from streams.domain.status import name_of
from streams.domain.topic import drains_partition, is_queue_topic, topic_of
from streams.domain.trace import trace_of
from streams.drain.drainer import Drainer
from streams.drain.drains import Drains
from streams.errors import Revoked, XferqError
from streams.ledger.ledger import Ledger
from streams.ledger.results import Results
from streams.ports import Kafka
from streams.settings.settings import Settings
from streams.telemetry.health import Health
from streams.telemetry.traces import COMMAND_ID, OUTCOME, QUEUE, about_record, span
from streams.worker.backlog import Backlog
from streams.worker.forgetting import Forgetting
from streams.worker.head_guard import HeadGuard
from streams.worker.held import HeldBack
from streams.worker.maintenance import Maintenance, Round
from streams.worker.space import SpaceReclaimer
from streams.worker.stalled_claims import StalledClaims

_log = logging.getLogger(__name__)
_PATIENCE_OF_LOOKS_S = 5.0
_FORGET_S = 600.0
_DEPTHS_S = 15.0


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


class Engine:
    """Carries out commands and drains: side by side across queues, in order within one."""

    def __init__(
        self,
        kafka: Kafka,
        settings: Settings,
        now: Callable[[], datetime] = utc_now,
        health: Health | None = None,
    ) -> None:
        self.health = health or Health()
        self._settings = settings
        self._stopping = False
        self._shares: frozenset[int] = frozenset()
        self.ledger = Ledger(kafka, settings)
        self._results = Results(kafka, settings, self.health)
        self.claimer = Claimer(kafka, self.ledger, self._results, settings, now)
        self.context = CommandContext(kafka, self.ledger, self.claimer, self._results, settings, now, self.health)
        self.commands = Commands(self.context)
        self.drainer = Drainer(kafka, self.ledger, settings, now, self.health)
        self.space = SpaceReclaimer(kafka, self.ledger, settings, self.owns_queue)
        self.forgetting = Forgetting(self.context, self.owns_queue)
        self.maintenance = Maintenance(self._rounds())
        self._held_back = HeldBack(kafka, settings, self.health)
        self.drains = Drains(
            self.drainer,
            self.ledger,
            self._drains_partition,
            settings.concurrent_drains,
            self.space.free_soon,
            self.health,
        )
        self.pending = Pending(
            self.ledger,
            settings,
            partial(self._execute, is_kept=True),
            lambda name: not self._stopping and self.owns_queue(name),
            self.commands.announcements.say_its_turn,
        )
        self._background = Background()
        self.ledger.on_drained = self._on_drained

    def _rounds(self) -> list[Round]:
        settings = self._settings
        guard = HeadGuard(self.context, self.owns_queue)
        stalled = StalledClaims(self.context, self.commands, self.owns_queue)
        backlog = Backlog(self.context.kafka, self.ledger, settings)
        return [
            ("guard_heads", guard.guard_heads, settings.guard_ms / 1000),
            ("nudge_stalled", stalled.nudge_stalled, settings.stalled_ms / 3000),
            ("free_space", self.space.free_space, settings.space_s),
            ("forget_commands", self.forgetting.forget_commands, _FORGET_S),
            ("show_depths", partial(backlog.show_depths, self.owns_queue), _DEPTHS_S),
        ]

    async def start(self) -> None:
        """Read the ledger, begin the standing work."""
        await self.ledger.start()
        with suppress(XferqError):  # or at the next look
            await self._results.look()
        self.drains.start()
        self.maintenance.start()

    async def look(self) -> None:
        """See that Kafka answers, that the ledger is followed, and what holds back commands; every few seconds.

        Raises:
            Unavailable: Kafka does not answer, or the ledger is not followed.
        """
        await self.ledger.look()
        self.health.notes("ledger", self.ledger.held_up)
        self.pending.look()
        try:
            async with asyncio.timeout(_PATIENCE_OF_LOOKS_S):
                await self._held_back.look()
                await self._results.look()
        except (XferqError, TimeoutError) as error:
            # One partition of these topics without a leader: no reason to be taken for one that can't work.
            self.health.notes("inputs", f"whether commands or drain tasks are held back can't be seen: {error!r}")
        else:
            self.health.notes("inputs", None)

    async def stop(self) -> None:
        """End the standing work. Stop feeding and let running work reach its edge before: `begin_stop`."""
        self.begin_stop()
        await self.drains.idle(0)
        await self.pending.stop()
        await self._background.stop()
        await self.space.stop()
        await self.maintenance.stop()
        await self.commands.outcomes.stop()
        await self.claimer.stop()
        await self.ledger.stop()

    def begin_stop(self) -> None:
        """From now on, work stops at the next edge of a transaction and is left to others."""
        self._stopping = True
        self.drains.begin_stop()

    def lose_shares(self) -> None:
        """This worker has no share until shares are given out anew."""
        self._shares = frozenset()
        self.drains.lose_share()

    def take_shares(self, commands: Collection[int], drains: Collection[int]) -> None:
        """These partitions of the commands and of the drains topic are now this worker's share, and no others.

        Those of commands also share out the standing work.
        """
        self._shares = frozenset(commands)
        self.drains.take_share(drains)
        self.pending.look()

    @property
    def shares(self) -> frozenset[int]:
        """The partitions of the commands topic in this worker's share."""
        return self._shares

    def owns_queue(self, topic: str) -> bool:
        """Whether this worker does the standing work for this queue topic: every topic has one worker that does."""
        return zlib.crc32(topic.encode()) % self._settings.commands_partitions in self._shares

    async def on_command(
        self, record: CommandRecord, owns: Callable[[], bool], wanted: asyncio.Future[None] | None = None
    ) -> bool:
        """Carry out one record of the commands topic, or keep it; whether it may be acknowledged."""
        wanted = wanted or asyncio.get_running_loop().create_future()
        work = self._execute(record, owns)
        return await self.pending.done_or_kept(self._name_of(record), record, work, wanted)

    def _name_of(self, record: CommandRecord) -> str:
        try:
            return topic_of(self.commands.parse(record).queue)
        except InvalidCommand as error:
            return error.id

    async def _execute(self, record: CommandRecord, owns: Callable[[], bool], *, is_kept: bool = False) -> bool:
        def may_continue() -> bool:
            return owns() and not self._stopping

        about = about_record(record.topic, "process", kind="process", partition=record.partition)
        about |= {"messaging.kafka.offset": record.offset, "messaging.consumer.group.name": self._settings.worker_group}
        with span(f"process {record.topic}", SpanKind.CONSUMER, about, trace_of(record.headers)) as processing:
            return await self._on_command(record, may_continue, processing, is_kept=is_kept)

    async def _on_command(
        self, record: CommandRecord, may_continue: Callable[[], bool], processing: Span, *, is_kept: bool
    ) -> bool:
        try:
            command = self.commands.parse(record)
        except InvalidCommand as error:
            processing.set_attributes({COMMAND_ID: error.id, OUTCOME: "refused"})
            return await self._refuse(record, error, may_continue)
        processing.set_attributes({COMMAND_ID: command.id, QUEUE: command.queue, "xferq.command.type": command.type})
        try:
            outcome = await self.commands.run(command, record, may_continue, is_kept=is_kept)
        except Revoked:
            processing.set_attribute(OUTCOME, "abandoned")
            return False
        processing.set_attribute(OUTCOME, outcome)
        return True

    async def _refuse(self, record: CommandRecord, error: InvalidCommand, may_continue: Callable[[], bool]) -> bool:
        while may_continue():
            try:
                await self.commands.refusals.refuse(record, error)
            except XferqError as failure:
                _log.warning("command.again id=%s error=%s", error.id, failure)
                await asyncio.sleep(1)
            else:
                return True
        return False

    def on_task(self, value: bytes | None) -> None:
        """Begin the drain that a task announces, where it has not begun by what the ledger shows."""
        try:
            task = orjson.loads(value or b"")
            topic, partition = str(task["topic"]), int(task["partition"])
            if not is_queue_topic(topic):
                raise ValueError
        except (KeyError, TypeError, ValueError):
            _log.error("drain.task_unreadable value=%r", (value or b"")[:200])
        else:
            self.drains.begin(topic, partition)

    def _drains_partition(self, topic: str, partition: int) -> int:
        return drains_partition(topic, partition, self._settings.drains_partitions)

    def _on_drained(self, id: str) -> None:
        """The view shows that all of a command is drained: one of the workers records its end."""
        status = self.ledger.recorded_status(id)
        if status is not None and self.ledger.outcome(id) is None and self.owns_queue(name_of(status)):
            self.commands.outcomes.finish_soon(id)
