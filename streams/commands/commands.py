"""Carries commands out, from the record on the topic to their end: parse, claim, publish the drain tasks, finish.

A worker acknowledges a command only when it is through with it, so after a crash it comes again. Every step can be
repeated: a claim is made once per command and queue, a task only announces, a status is rewritten.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from datetime import datetime, timedelta

from streams.claim.claimer import fence_of
from streams.claim.request import ClaimRequest
from streams.commands.admission import Admission, NotToDo, NotWanted
from streams.commands.announcements import ITS_TURN, Announcements
from streams.commands.command_record import CommandRecord
from streams.commands.context import CommandContext
from streams.commands.ids import Ids, IdTaken
from streams.commands.outcomes import Outcomes
from streams.commands.queue_claims import QueueClaims
from streams.commands.refusals import Refusals
from streams.commands.transfers import Transfers
from streams.commands.wait import Wait
from streams.concurrency.backoff import backoff_s
from streams.concurrency.keyed_locks import KeyedLocks
from streams.domain.command import CancelCommand, Command, StartCommand, parse_command, position_id
from streams.domain.status import Status, hash_of, name_of
from streams.domain.timestamp import parse_time
from streams.domain.topic import topic_of
from streams.errors import Refused, Revoked, Unavailable, XferqError

_log = logging.getLogger(__name__)
_MOST_BACKOFF_S = 5.0
_BARRIER_S = 2.0
_TURN_S = 0.5
_QUEUES = "its queues, which are being claimed, some at a time"
_LEDGER = "reading what the ledger says: a transaction is open in it, or Kafka is slow"


class Commands:
    """Carries commands out."""

    def __init__(self, context: CommandContext) -> None:
        self._ledger = context.ledger
        self._claimer = context.claimer
        self._settings = context.settings
        self._now = context.now
        self._health = context.health
        self.claims = QueueClaims(context)
        self.outcomes = Outcomes(context)
        self._transfers = Transfers(context, self.claims, self.outcomes)
        self._admission = Admission(context.ledger, context.settings)
        self._ids = Ids(context.ledger)
        self.refusals = Refusals(context.ledger, self._ids, self.outcomes)
        self.announcements = Announcements(context.ledger, self._ids, self._admission, self.parse)
        self._locks = KeyedLocks()  # how many work at a time, the claimer sees to

    def parse(self, record: CommandRecord) -> Command:
        """The command in the record.

        Raises:
            InvalidCommand: there is none.
        """
        fallback = position_id(record.topic, record.partition, record.offset, record.timestamp)
        return parse_command(record.value, fallback_id=fallback)

    async def run(
        self,
        command: Command,
        record: CommandRecord,
        owns: Callable[[], bool],
        *,
        is_kept: bool = False,
    ) -> str:
        """Do all of it, or find that it was done; after all that came before for the same queue.

        Tries again through every error of Kafka's. Its status says what it waits for. `is_kept` where the ledger keeps
        it, and it is its turn (`streams.commands.pending`).
        Returns what came of it, in a word: `claimed`, `refused`, `known` where it was carried out before, or `kept`
        where the ledger keeps it, for its queue's worker to go on with.

        Raises:
            Revoked: `owns` became false.
        """
        status = Status.of(command, state="waiting", requested_at=record.written_at)
        work = f"command {command.id}"

        async def say(why: str, for_s: float) -> bool:
            self._health.waits(work, why, for_s)
            return await self.announcements.say(status, why, record)

        try:
            async with Wait(ITS_TURN, say) as wait, nullcontext() if is_kept else self._locks.held(command.queue):
                outcome = await self._until_done(command, status, record, owns, wait, is_kept=is_kept)
        except BaseException:
            self._health.leaves(work)
            raise
        self._health.goes_on(work)
        return outcome

    async def _until_done(
        self,
        command: Command,
        status: Status,
        record: CommandRecord,
        owns: Callable[[], bool],
        wait: Wait,
        *,
        is_kept: bool,
    ) -> str:
        failures = 0
        name = topic_of(command.queue)

        def admit() -> Status:
            if not is_kept and self._ledger.pending.holds(name, record.position):
                raise NotToDo("kept")
            if not is_kept and self._ledger.pending.is_behind(name, record.position):
                raise Unavailable(ITS_TURN)
            known = self._admission.admit(status, record.timestamp)
            self._admission.require_wanted(command, self._expiry(command, record), self._now())
            return known

        while owns():
            if not is_kept and self._ledger.pending.holds(name, record.position):
                return "kept"
            if not is_kept and self._ledger.pending.is_behind(name, record.position):
                await asyncio.sleep(_TURN_S)  # without a claim's fence: that would disturb the worker at it
                continue
            try:
                return await self._attempt(command, status, admit, wait, is_again=failures > 0)
            except XferqError as error:
                failures += 1
                _log.warning("command.again id=%s queue=%r error=%s", command.id, command.queue, error)
                await wait.tell(str(error))
                await asyncio.sleep(backoff_s(failures, 0.2, _MOST_BACKOFF_S))
        raise Revoked

    def _expiry(self, command: Command, record: CommandRecord) -> datetime | None:
        if command.expires_at is not None:
            return parse_time(command.expires_at)
        after_s = self._settings.expire_after_s
        # A record without a time has none to expire by.
        return record.moment + timedelta(seconds=after_s) if after_s and record.timestamp > 0 else None

    async def _attempt(
        self,
        command: Command,
        status: Status,
        admit: Callable[[], Status],
        wait: Wait,
        *,
        is_again: bool,
    ) -> str:
        if not is_again:
            wait.now(_LEDGER)
        try:
            await self._ids.take(command.id, hash_of(command))
        except IdTaken as error:
            _log.warning("command.refused id=%s reason=%r", command.id, str(error))
            return "refused"
        try:
            try:
                await HANDLERS[command.type](self, command, status, admit, wait, is_again=is_again)
            except Refused as error:
                await wait.stop()  # or that it waits would be the last word
                event = error.event if isinstance(error, NotWanted) else "refused"
                await self.outcomes.refuse(status, event, str(error))
                return "refused"
        except NotToDo as error:
            return error.outcome
        return "claimed"

    async def _read_ledger(self, status: Status) -> None:
        """All that the ledger says about the command, past a transaction that a worker may have left open there.

        1. A worker dies in a claim's transaction, or in one of the command; what it wrote is not committed.
        2. This worker has the command now and can't read on. Its next step would end that transaction, but comes later.
        3. So it takes the transaction's id over here: the transaction would otherwise last until its time-out.
        """
        name = name_of(status)
        try:
            async with asyncio.timeout(_BARRIER_S):
                await self._ledger.barrier(name)
        except TimeoutError:
            if status.type != "xfer.cancel":
                async with self._claimer.fence(fence_of(name)):
                    pass
            async with self.outcomes.fence(status):  # which reads the ledger, too
                pass

    async def _cancel(
        self, command: CancelCommand, status: Status, admit: Callable[[], Status], wait: Wait, *, is_again: bool
    ) -> None:
        name = topic_of(command.queue_name)
        # A new one is admitted behind the barrier that its claim passes anyhow.
        if not self._admission.looks_new(command.id):
            await self._read_ledger(status)
            status = admit()
        request = ClaimRequest(
            id=command.id,
            kind="xfer.cancel",
            queue=command.queue_name,
            topic=name,
            xfer_queue=command.queue_name,
            reason=command.reason,
            admit=admit,
            is_again=is_again,
            on_step=(lambda _: None) if is_again else wait.now,  # else the error of the last try says more
        )
        claim = await self.claims.claim(request)
        if not claim.ranges:
            self.outcomes.tell(status.model_copy(update={"state": "done"}))

    async def _start(
        self, command: StartCommand, status: Status, admit: Callable[[], Status], wait: Wait, *, is_again: bool
    ) -> None:
        await self._read_ledger(status)
        status = admit()
        if not is_again:
            wait.now(_QUEUES)
        await self._transfers.claim(command, status, admit, is_again=is_again)
        await self.outcomes.finish(command.id)


HANDLERS: Mapping[str, Callable[..., Awaitable[None]]] = {
    "xfer.cancel": Commands._cancel,
    "xfer.start": Commands._start,
}
"""What carries a command out, by its type: a method that takes the command, its status, `admit`, `wait`, `is_again`."""
