"""The Faust app: it decides which worker gets which commands and drains, and hands them to the engine.

The only file that imports Faust. What it works around, each with a test on a real broker:
- Faust acknowledges an event when its agent raises: `noack()`, and `ack` by hand when the work is done.
- Faust commits past one event that is not acknowledged (its issue 606), and nothing any more behind an aborted
  record and its marker: what is committed lies behind the last event that was acknowledged, in order per partition.
- Faust reads records of transactions that are open or aborted, unless it has transactions of its own.
- Work on a revoked partition's events may go on: it stops at its next edge and never acknowledges them, as
  the partition's next owner gets them again; that may be this worker.
- By default Faust waits without bound for events on shutdown and rebalance: `stream_wait_empty=False`.
- A worker without a partition leaves the group for good after the poll interval: it is set to years.
- Every second or two it looks at partitions, threads and statistics, and logs an error for each partition on which
  nothing has come for five minutes: all of that is left out (`_commit_livelock_detector`, `_keepalive2`, `_Monitor`).
- Records that arrive while a rebalance has stopped the flow are thrown away, and read again only from a
  committed offset: where there is none yet, they would be lost (`_ConsumerThread`).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import faust
import faust.auth
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, EventT

from streams.commands.command_record import CommandRecord
from streams.concurrency.ending import Background
from streams.kafka.connection import Connection
from streams.kafka.reader import LOOK_MS
from streams.kafka.worker_group import ASSIGNOR
from streams.settings.settings import Settings
from streams.worker.engine import Engine

_log = logging.getLogger(__name__)
_NEVER_S = 10.0 * 365 * 24 * 3600
_IN_HAND = 10_000
"""Commands at work or waiting for their turn. More would back up into Faust, which then delivers nothing any more."""
_BEHIND = 1_000
"""So many that are not acknowledged behind one are too many: after a crash they all come again."""
_RETRY_S = 5.0
_REBALANCE_S = 15.0
"""A rebalance of the workers' group is nobody's business for so long."""
_SEEK_AGAIN_S = 0.2
Owns = Callable[[], bool]
Work = Callable[[Owns, asyncio.Future[None]], Awaitable[bool]]
"""Told whether this worker still has the event, and when its acknowledgement is wanted, as too much waits behind it."""


@dataclass(slots=True, eq=False)
class _InHand:
    """An event that was handed over; `live` until its partition is revoked."""

    event: EventT[Any]
    wanted: asyncio.Future[None]
    live: bool = True
    done: bool = False


class AckQueue:
    """Events at work, side by side, acknowledged in order per partition."""

    def __init__(self) -> None:
        self._queues: dict[TP, deque[_InHand]] = {}
        self._slots = asyncio.Semaphore(_IN_HAND)
        self._work = Background()

    async def submit(self, event: EventT[Any], work: Work) -> None:
        """Begin the work of an event; waits while too many are at work."""
        item = _InHand(event, asyncio.get_running_loop().create_future())
        self._queues.setdefault(event.message.tp, deque()).append(item)
        for queue in self._queues.values() if self._slots.locked() else [self._queues[event.message.tp]]:
            self._want_first(queue)
        await self._slots.acquire()
        self._work.begin(self._carry_out(item, work))

    async def _carry_out(self, item: _InHand, work: Work) -> None:
        try:
            while item.live:
                try:
                    item.done = await work(lambda: item.live, item.wanted)
                    break
                except Exception:  # noqa: BLE001 - a bug in xferq, and Faust would acknowledge the event and lose it
                    _log.exception("worker.failed topic=%s", item.event.message.topic)
                    await asyncio.sleep(_RETRY_S)
        finally:
            self._slots.release()
        if item.live:
            self._acknowledge(self._queues[item.event.message.tp])

    def _acknowledge(self, queue: deque[_InHand]) -> None:
        while queue and queue[0].done:
            queue.popleft().event.ack()
        self._want_first(queue)

    def _want_first(self, queue: deque[_InHand]) -> None:
        """Where too many wait behind the first, or no more can be taken in: let it be done with soon."""
        if queue and (len(queue) > _BEHIND or self._slots.locked()) and not queue[0].wanted.done():
            queue[0].wanted.set_result(None)

    def drop(self, revoked: set[TP]) -> None:
        """These partitions have left this worker's share, or are about to be given out anew."""
        for tp in revoked:
            for item in self._queues.pop(tp, ()):
                item.live = False

    async def idle(self, within_s: float) -> None:
        """Wait until no work is left, but not longer than `within_s`; then cancel it."""
        await self._work.idle(within_s)


class _Assignor(driver.RoundRobinPartitionAssignor):  # type: ignore[misc]
    """The one that Faust takes where there are no tables, by a name of our own."""

    name = ASSIGNOR


class _ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Reads committed records only, and goes back to the first one of a partition for which nothing is committed, too.

    1. Faust asks for records, for up to a second; a rebalance stops the flow meanwhile.
    2. A command arrives, and is returned to Faust: the position is behind it now.
    3. As the flow is stopped, Faust throws it away and seeks to the committed offset; after the rebalance once more.
    4. aiokafka's `seek_to_committed` leaves a partition without one, or with 0, where it is: behind the command.
    """

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # `processing_guarantee` would bring transactions of its own
        consumer._partition_assignment_strategy = [_Assignor]
        consumer._consumer_timeout = LOOK_MS / 1000
        return consumer

    async def _keepalive2(self) -> None:
        """Nothing: it would say that the event loop is busy, which the probes tell."""

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek, however often it takes: Faust would log a failure, and go on behind what it has thrown away."""
        while True:
            try:
                return dict(await self.call_thread(self._seek_to_committed))
            except driver.KafkaError as error:
                _log.info("worker.seeking error=%r", error)
                await asyncio.sleep(_SEEK_AGAIN_S)

    async def _seek_to_committed(self) -> Mapping[TP, int]:
        consumer = self._ensure_consumer()
        committed: Mapping[TP, int] = await consumer.seek_to_committed()
        unread = [partition for partition, offset in committed.items() if not offset]
        # Not by `seek_to_beginning`: without a position for a moment, Faust's look at it fails.
        for partition, offset in (await consumer.beginning_offsets(unread)).items() if unread else ():
            consumer.seek(partition, offset)
        return committed


class _Consumer(driver.Consumer):  # type: ignore[misc]
    """Commits the offset behind the last event that was acknowledged, whatever lies between the events.

    Faust acknowledges out of order, so it looks for the first offset without an event: it lists each one of a gap, and
    an aborted transaction of millions would stop the event loop; and a gap of two or more behind the committed offset,
    an aborted record and its marker, is not seen as one: nothing would be committed any more. The queue acknowledges
    in order: an offset below that was not acknowledged is no record for a worker.
    """

    def ack(self, message: Any) -> bool:
        """Only what an agent was given: Faust, where it is not compiled, acknowledges what it skips in a rebalance."""
        return bool(message.tracked and super().ack(message))

    def _new_offset(self, tp: TP) -> int | None:
        acked: list[int] = self._acked[tp]
        if not acked:
            return None
        through = max(acked) + 1
        acked.clear()
        self._acked_index[tp].clear()
        return through

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """None is kept."""

    @faust.Service.task  # type: ignore[untyped-decorator]
    async def _commit_livelock_detector(self) -> None:
        """Nothing: what stands still, `streams.telemetry.health` tells."""

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class _Monitor(faust.Monitor):  # type: ignore[misc]
    """Faust's statistics without what it samples once a second."""

    @faust.Service.task  # type: ignore[untyped-decorator]
    async def _sampler(self) -> None:
        """Nothing."""


def create_app(settings: Settings, engine: Engine, connection: Connection, acks: AckQueue, scratch: str) -> faust.App:
    """The Faust app with its two agents. Made within the running event loop; nothing happens before `start`.

    `scratch` is a folder for Faust, which makes another in it for tables, although there are none.
    """
    for service in (_Consumer, _ConsumerThread, _Monitor):
        service.logger = logging.getLogger("faust")  # how they start and stop is no event of ours
    app = _new_app(settings, connection, scratch)
    app.transport.Consumer = _Consumer
    _add_agents(app, settings, engine, acks)
    _follow_shares(app, settings, engine, acks)
    return app


def _new_app(settings: Settings, connection: Connection, scratch: str) -> faust.App:
    return faust.App(
        settings.worker_group,
        monitor=_Monitor(),
        broker=[f"kafka://{server.strip()}" for server in connection.bootstrap_servers.split(",")],
        broker_credentials=_credentials(connection.security.aiokafka()),
        key_serializer="raw",
        value_serializer="raw",
        stream_wait_empty=False,
        stream_buffer_maxsize=64,
        stream_publish_on_commit=False,
        broker_max_poll_interval=_NEVER_S,
        broker_max_poll_records=100,
        broker_session_timeout=settings.worker_session_ms / 1000,
        broker_heartbeat_interval=settings.worker_session_ms / 5000,
        broker_rebalance_timeout=30.0,
        broker_request_timeout=40.0,
        broker_commit_interval=1.0,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        web_tables_enabled=False,
        web_router_enabled=False,
        worker_redirect_stdouts=False,
        autodiscover=False,
        datadir=scratch,
    )


def _add_agents(app: faust.App, settings: Settings, engine: Engine, acks: AckQueue) -> None:
    """Hand what comes on the commands and the drains topic to the engine."""
    raw_topic = partial(app.topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    @app.agent(raw_topic(settings.commands_topic), concurrency=1, name="xferq.commands")  # type: ignore[untyped-decorator]
    async def commands(stream: Any) -> None:
        async for event in stream.noack().events():
            message = event.message
            record = CommandRecord(
                topic=message.topic,
                partition=message.partition,
                offset=message.offset,
                timestamp=int((message.timestamp or 0) * 1000),
                value=message.value,
                headers=message.headers or (),
            )
            await acks.submit(event, partial(engine.on_command, record))

    @app.agent(raw_topic(settings.drains_topic), concurrency=1, name="xferq.drains")  # type: ignore[untyped-decorator]
    async def drains(stream: Any) -> None:
        async for event in stream.noack().events():
            engine.on_task(event.message.value)
            event.ack()  # at once: what there is to drain stands in the ledger, where this share's owner sees it


def _follow_shares(app: faust.App, settings: Settings, engine: Engine, acks: AckQueue) -> None:
    """Tell the engine which partitions this worker has. The app keeps both handlers, as they are not weak."""

    async def revoked(sender: Any, revoked: set[TP], **_: Any) -> None:
        acks.drop(revoked)
        engine.lose_shares()
        engine.health.lacks("group", f"waiting for a place in group {settings.worker_group}", _REBALANCE_S)

    async def assigned(sender: Any, assigned: set[TP], **_: Any) -> None:
        engine.health.has("group")
        commands, drains = settings.commands_topic, settings.drains_topic
        engine.take_shares(*([tp.partition for tp in assigned if tp.topic == topic] for topic in (commands, drains)))
        _log.info("worker.assigned partitions=%d", len(assigned))

    app.on_partitions_revoked.connect(revoked, weak=False)
    app.on_partitions_assigned.connect(assigned, weak=False)


def _credentials(options: Mapping[str, Any]) -> faust.auth.Credentials | None:
    """aiokafka's options of security in Faust's own words, from which it makes the same options again."""
    context, tokens = options.get("ssl_context"), options.get("sasl_oauth_token_provider")
    if tokens is not None:
        return faust.auth.OAuthCredentials(oauth_cb=tokens, ssl_context=context)
    if "sasl_mechanism" in options:
        return faust.auth.SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            mechanism=options["sasl_mechanism"],
            ssl_context=context,
        )
    return None if context is None else faust.auth.SSLCredentials(context)
