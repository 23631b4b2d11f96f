"""Writes what a command waits for where people look: in its status."""

import asyncio
import logging
from collections.abc import Callable

from streams.commands.admission import Admission
from streams.commands.command_record import CommandRecord
from streams.commands.ids import Ids, IdTaken
from streams.domain.command import Command, InvalidCommand
from streams.domain.status import Status
from streams.domain.topic import topic_of
from streams.errors import XferqError
from streams.ledger.ledger import Ledger

_log = logging.getLogger(__name__)
_BARRIER_S = 2.0
ITS_TURN = "its turn: earlier commands for the same queue are not through; their status says what they wait for"


class Announcements:
    """Writes it into the ledger. `parse` reads a command from its record."""

    def __init__(
        self,
        ledger: Ledger,
        ids: Ids,
        admission: Admission,
        parse: Callable[[CommandRecord], Command],
    ) -> None:
        self._ledger = ledger
        self._ids = ids
        self._admission = admission
        self._parse = parse

    async def say(self, status: Status, why: str, record: CommandRecord) -> bool:
        """Let the status say it, if that can be had quickly; whether it does, or need not."""
        name = topic_of(status.queue_name or status.id)
        try:
            # What failed may have come after the claim: its status must not be overwritten. Nor that of another
            # command, whose id this is; one that waits for its turn has not asked yet.
            async with asyncio.timeout(_BARRIER_S):
                await asyncio.gather(self._ids.take(status.id, str(status.command)), self._ledger.barrier(name))
            known = self._ledger.recorded_status(status.id)
            if known is not None and (known.state not in ("accepted", "waiting") or known.command != status.command):
                return True
            if known is None and self._admission.is_old(name, record.timestamp):
                return False  # by that it would be known
            waiting = (known or status).model_copy(update={"state": "waiting", "detail": why})
            if waiting != known:
                await self._ledger.record_status(name, waiting)
        except IdTaken:
            return True
        except (XferqError, TimeoutError) as error:
            _log.info("command.unrecorded id=%s error=%r", status.id, error)
            return False
        return True

    async def say_its_turn(self, record: CommandRecord) -> bool:
        """Let the status say that the command waits for its turn; whether it says so, or need not."""
        try:
            command = self._parse(record)
        except InvalidCommand:
            return True
        status = Status.of(command, state="waiting", requested_at=record.written_at)
        return await self.say(status, ITS_TURN, record)
