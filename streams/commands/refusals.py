"""Refuses what is no command."""

import hashlib
import logging

from streams.commands.admission import NotToDo
from streams.commands.command_record import CommandRecord
from streams.commands.ids import Ids, IdTaken
from streams.commands.outcomes import Outcomes
from streams.domain.command import InvalidCommand
from streams.domain.earlier_command import earlier_command
from streams.domain.status import Status, hash_of
from streams.domain.transitions import can_be
from streams.errors import Unavailable
from streams.ledger.ledger import Ledger

_log = logging.getLogger(__name__)


class Refusals:
    """Records on the commands topic that are no commands get an end, so that whoever wrote them finds out."""

    def __init__(self, ledger: Ledger, ids: Ids, outcomes: Outcomes) -> None:
        self._ledger = ledger
        self._ids = ids
        self._outcomes = outcomes

    async def refuse(self, record: CommandRecord, error: InvalidCommand) -> None:
        """Record that this is no command; another one that has its id keeps its own status.

        Raises:
            XferqError: it could not be recorded.
        """
        try:
            await self._ids.take(error.id, hashlib.sha256(record.value or b"").hexdigest())
        except IdTaken:
            await self._refuse_earlier(record, error)
            return
        await self._ledger.barrier(error.id)
        known = self._ledger.recorded_status(error.id)
        # Also where that is written down: it may not have been told.
        if known is None or (known.command is None and known.state == "refused"):
            status = Status(id=error.id, state="waiting", requested_at=record.written_at)
            await self._outcomes.refuse_invalid(known or status, error.reason)

    async def _refuse_earlier(self, record: CommandRecord, error: InvalidCommand) -> None:
        """Refuse what an earlier version took for a command, and under whose content it has taken the id."""
        command = earlier_command(record.value, error.id)
        if command is None or self._ledger.owner_of(error.id) != hash_of(command):
            _log.warning("command.refused id=%s (the id is taken) reason=%r", error.id, error.reason)
            return
        status = Status.of(command, state="waiting", requested_at=record.written_at)
        try:
            await self._outcomes.refuse(status, "refused", error.reason)
        except NotToDo:
            pass  # it has ended
        except Unavailable:
            if can_be(self._ledger.state(error.id), "refused"):
                raise
            _log.warning("command.refused id=%s (it has begun and goes on) reason=%r", error.id, error.reason)
