"""How commands end: with one record each that no worker writes over, in a transaction under the command's fence.

The fence is a transactional id. A cancel has that of its queue's claims, `xferq.claim.<topic>`; any other command has
`xferq.command.<id>`. So a worker decides an end on all that the ledger says, and on nothing that comes later:
1. A worker finds that a command can't be carried out, and stands still before it says so.
2. Another worker takes the fence over: it claims, or selects, or writes the end.
3. The first worker goes on. It takes the fence, then reads the ledger, and sees what has become of the command; or
   it had the fence already, and its transaction fails.
A cancel of an empty queue ends in the transaction of its claim (`streams.claim.records`).
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streams.claim.claimer import fence_of
from streams.commands.admission import NotToDo
from streams.commands.context import CommandContext
from streams.concurrency.ending import Background
from streams.concurrency.keyed_locks import KeyedLocks
from streams.domain.result import revision_after
from streams.domain.status import Status, name_of
from streams.domain.timestamp import format_time
from streams.domain.transitions import ENDED, Event, advance, can_be
from streams.errors import Unavailable, XferqError
from streams.ledger.keys import outcome_key
from streams.ports import Producer
from streams.telemetry.metrics import COMMANDS

_log = logging.getLogger(__name__)


class Outcomes:
    """Writes the ends of commands."""

    def __init__(self, context: CommandContext) -> None:
        self._ledger = context.ledger
        self._results = context.results
        self._claimer = context.claimer
        self._now = context.now
        self._partitions = KeyedLocks()
        self._finishing: set[str] = set()
        self._background = Background()

    @asynccontextmanager
    async def fence(self, status: Status) -> AsyncIterator[Producer]:
        """The command's fence, with all known that the ledger says of the command."""
        name = name_of(status)
        id = fence_of(name) if status.type == "xfer.cancel" else f"xferq.command.{status.id}"
        async with self._claimer.fence(id) as fence:
            await self._ledger.barrier(name)
            yield fence

    async def refuse(self, status: Status, event: Event, why: str) -> None:
        """End the command before its beginning, by this event.

        Raises:
            NotToDo: it has ended, or is another command by now.
            Unavailable: it has begun, so it goes on.
            XferqError: it could not be written down; it may have been.
        """
        async with self.fence(status) as fence:
            state = self._ledger.state(status.id)
            if state in ENDED:
                raise NotToDo("known")
            if not can_be(state, event):
                raise Unavailable(why)
            status = self._ledger.recorded_status(status.id) or status
            await self.write(fence, self._refused(status, event, why))

    async def refuse_invalid(self, status: Status, why: str) -> None:
        """End what is no command, whose id no command has (`streams.commands.ids`): so it needs no fence.

        An end that is written is told once more: who wrote it may have died before it was told.

        Raises:
            XferqError: it could not be written down; it may have been.
        """
        if status.state not in ENDED:
            status = self._refused(status, "refused", why)
            await self._ledger.record(name_of(status), [(outcome_key(status.id), status.to_bytes())])
            self.tell(status)
        await self._results.publish(status, revision=1)

    def _refused(self, status: Status, event: Event, why: str) -> Status:
        state = advance(status.state, event)
        return status.model_copy(update={"state": state, "detail": why, "finished_at": format_time(self._now())})

    async def finish(self, id: str) -> None:
        """Write the command's end, if all of its ranges are drained.

        That is stable: what is drained stays so, and nothing more is claimed for a command once its claims are counted.

        Raises:
            XferqError: it could not be written down; it may have been.
        """
        if (status := self._drained(id)) is None:
            return
        # One at a time in each partition of the ledger: however many end, and whichever partition stands still.
        partition = str(self._ledger.partition_of(name_of(status)))
        async with self._partitions.held(partition), self.fence(status) as fence:
            if (status := self._drained(id)) is not None:
                await self.write(fence, status)

    def finish_soon(self, id: str) -> None:
        """The same in the background; where it fails, the next round of `StalledClaims` does it."""
        if id not in self._finishing:
            self._finishing.add(id)
            self._background.begin(self._finish(id))

    async def _finish(self, id: str) -> None:
        try:
            await self.finish(id)
        except XferqError as error:
            _log.info("command.unfinished id=%s error=%s", id, error)
        finally:
            self._finishing.discard(id)

    def _drained(self, id: str) -> Status | None:
        """The end that is to be written."""
        status = self._ledger.status(id)
        if self._ledger.lacking(id):
            return None  # how it ends, another version has to tell
        is_written = self._ledger.outcome(id) is not None or status == self._ledger.recorded_status(id)
        return None if is_written or status is None or status.state != "done" else status

    async def write(self, fence: Producer, outcome: Status) -> None:
        """Write this end, and count it."""
        values = [(outcome_key(outcome.id), outcome.to_bytes())]
        revision = revision_after(self._ledger.state(outcome.id))
        await self._results.transact(fence, outcome, revision, [self._ledger.write(fence, name_of(outcome), values)])
        self.tell(outcome)

    def tell(self, outcome: Status) -> None:
        """Count and log an end that is written."""
        COMMANDS.labels(type=outcome.type or "unknown", outcome=outcome.state).inc()
        _log.info(
            "command.%s id=%s queue=%r restored=%d returned=%d detail=%r",
            outcome.state, outcome.id, outcome.queue_name, outcome.restored, outcome.returned, outcome.detail,
        )  # fmt: skip

    async def stop(self) -> None:
        """End what is under way."""
        await self._background.stop()
