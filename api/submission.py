"""How the API takes a command: written to the ledger, then published, both durable before it answers."""

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from opentelemetry.trace import SpanKind

from api.link import KafkaLink
from api.problem import Problem, invalid, shown
from api.suggestion import probable_queue
from streams.commands.ids import Ids, IdTaken
from streams.concurrency.keyed_locks import KeyedLocks
from streams.domain.command import ID_RULE, MAX_COMMAND_BYTES, Command, is_command_id
from streams.domain.status import Status, hash_of
from streams.domain.timestamp import format_time
from streams.domain.topic import topic_of
from streams.errors import XferqError
from streams.lookup import find_topic
from streams.settings.settings import Settings
from streams.telemetry.traces import COMMAND_ID, QUEUE, about_record, current_trace, span

_log = logging.getLogger(__name__)
_AT_ONCE = 256


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


class CommandPublisher:
    """Takes commands, each id once."""

    def __init__(self, link: KafkaLink, settings: Settings, now: Callable[[], datetime] = utc_now) -> None:
        self._link = link
        self._settings = settings
        self.now = now
        self._locks = KeyedLocks()
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._limit_s = settings.request_timeout_ms / 1000 + 5

    async def submit(self, command: Command, *, is_new: bool) -> None:
        """Make the command durable, unless it was taken before.

        A status without a published command may stay behind where this fails: a client that repeats
        the request with the same id gets the command published then.

        Args:
            is_new: nobody else can have used the command's id.

        Raises:
            Problem: the id is taken, the queue does not exist, or Kafka is not available.
        """
        if len(command.to_bytes()) > MAX_COMMAND_BYTES:
            raise Problem("too-large", f"as a command it is larger than {MAX_COMMAND_BYTES:,} bytes: name fewer queues")
        async with self._locks.held(command.id), self._places:
            try:
                async with asyncio.timeout(self._limit_s):
                    if not await self._write_down(command, is_new=is_new):
                        return
            except (XferqError, TimeoutError) as error:
                problem = _unavailable(error)
                self._link.note_failure((command.id, topic_of(command.queue)), problem.detail)
                raise problem from error
            try:
                async with asyncio.timeout(self._limit_s):
                    await self._publish(command)
            except (XferqError, TimeoutError) as error:
                _log.warning("command.unpublished id=%s by=%r error=%s", command.id, command.requested_by, error)
                why = str(error) or "Kafka did not answer in time"
                self._link.failures.add_unpublished(f"a command could not be published: {why}")
                raise _unpublished(command.id) from error
        self._link.failures.succeed(self._link.ledger.partition_of(topic_of(command.queue)))
        who = command.requested_by
        _log.info("command.accepted id=%s type=%s queue=%r by=%r", command.id, command.type, command.queue, who)

    async def _publish(self, command: Command) -> None:
        """Publish it, with the span that this is in the record's headers."""
        topic = self._settings.commands_topic
        about = about_record(topic, "publish", kind="send") | {COMMAND_ID: command.id, QUEUE: command.queue}
        with span(f"publish {topic}", SpanKind.PRODUCER, about):
            headers = [(name, value.encode()) for name, value in current_trace().items()]
            await self._link.kafka.publish(topic, [(command.queue.encode(), command.to_bytes())], headers=headers)

    async def _write_down(self, command: Command, *, is_new: bool) -> bool:
        """Record the command as accepted; whether it is to be published."""
        ledger = self._link.require()
        status = Status.of(command, state="accepted", requested_at=format_time(self.now()))
        name = topic_of(command.queue)
        if not is_new:
            try:
                was_free = await Ids(ledger).take(command.id, hash_of(command))
            except IdTaken as error:
                raise Problem("id-conflict", str(error)) from error
            if not was_free:
                await ledger.barrier(name)  # what has become of the same command stands where all of its queue does
            known = ledger.recorded_status(command.id)
            if known is not None and known.command != status.command:
                raise Problem("id-conflict", f"{command.id} is the id of another command")  # that was none, and refused
            if known is not None:
                # Accepted, but was it published? A crash may have come between; twice does no harm.
                return known.state == "accepted"
        if command.needs_queue and not await self._is_known(name):
            detail = f"{shown(command.queue)} is not a current scheduled queue"
            meant = await probable_queue(self._link, command.queue)
            raise Problem("unknown-queue", detail, did_you_mean=meant)
        await ledger.record_status(name, status)
        return True

    async def _is_known(self, topic: str) -> bool:
        """Whether any broker knows the topic; all are asked where the first ones don't, as they may be behind."""
        kafka = self._link.kafka
        return await find_topic(kafka, topic) is not None or bool(await kafka.ids(topic))


def command_id(keys: Sequence[str]) -> str:
    """The id of a new command: the client's own, by its Idempotency-Key headers, or a new one.

    A key stands there as it is, or in quotes, as the IETF's draft has it (draft-ietf-httpapi-idempotency-key-header).

    Raises:
        Problem: the client's can't be one.
    """
    if not keys:
        return uuid.uuid4().hex
    key = keys[0][1:-1] if len(keys[0]) > 1 and keys[0][0] == keys[0][-1] == '"' else keys[0]
    if len(keys) > 1:
        raise invalid("header", "Idempotency-Key", "Idempotency-Key is there twice")
    if not is_command_id(key):
        raise invalid("header", "Idempotency-Key", f"Idempotency-Key {ID_RULE}")
    return key


def _unavailable(error: XferqError | TimeoutError) -> Problem:
    why = str(error) or "Kafka did not answer in time"
    return Problem("unavailable", f"nothing was published: {shown(why)}")


def _unpublished(id: str) -> Problem:
    return Problem(
        "unavailable",
        f"Kafka did not confirm the command. It may have been published: repeat the request with Idempotency-Key: {id}",
        headers={"X-Command-Id": id},
    )
