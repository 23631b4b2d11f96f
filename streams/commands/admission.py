"""Decides whether a command is to be carried out: by what the ledger says of its id, by its content, and by its age."""

import logging
from datetime import datetime

from streams.domain.abilities import in_words
from streams.domain.status import Status
from streams.domain.timestamp import format_time
from streams.domain.topic import topic_of
from streams.domain.transitions import ENDED, Event, can_be
from streams.errors import Refused, Revoked, Unavailable
from streams.ledger.ledger import Ledger
from streams.settings.work import WorkSettings

_log = logging.getLogger(__name__)


class NotToDo(Revoked):
    """This worker is not to carry the command out, or not again: `outcome` says in a word what has come of it."""

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class NotWanted(Refused):
    """A command that has not begun is not to begin any more; `event` says why."""

    def __init__(self, event: Event, message: str) -> None:
        super().__init__(message)
        self.event: Event = event


class Admission:
    """Lets a command through once. What it says of the ledger counts behind a barrier for the command's queue."""

    def __init__(self, ledger: Ledger, settings: WorkSettings) -> None:
        self._ledger = ledger
        self._settings = settings

    def looks_new(self, id: str) -> bool:
        """Whether nothing has come of the command of this id, as far as the view shows: no barrier is needed to ask."""
        status = self._ledger.status(id)
        return status is None or status.state == "accepted"

    def admit(self, status: Status, timestamp: int) -> Status:
        """The command's status as the ledger knows it; else `status`, which is the one that it would begin with.

        `timestamp`: its record's, in ms.

        Raises:
            NotToDo: see `known`.
            Refused: it may have been carried out before, and forgotten.
        """
        known = self.known(status)
        if known is None:
            self._require_young(status, timestamp)
        return known or status

    def require_wanted(self, id: str, expires_at: datetime | None, now: datetime) -> None:
        """See that the command is still wanted, or has begun; to be asked under its fence, before its beginning.

        Raises:
            NotWanted: it has expired, or was withdrawn.
            Unavailable: it is another version's to decide that.
        """
        control = self._ledger.control(id)
        if needs := self._ledger.lacking(id):
            raise Unavailable(in_words(needs))
        if control is not None and control.action == "withdraw" and can_be(self._ledger.state(id), "withdrawn"):
            by = f" by {control.requested_by}" if control.requested_by else ""
            raise NotWanted("withdrawn", f"it was withdrawn{by}" + (f": {control.reason}" if control.reason else ""))
        if expires_at is not None and expires_at <= now and can_be(self._ledger.state(id), "expired"):
            raise NotWanted("expired", f"it expired at {format_time(expires_at)}, before it could begin")

    def known(self, status: Status) -> Status | None:
        """The command's status by the ledger; None where that does not know it.

        Raises:
            NotToDo: it was carried out before, or its id is another command's.
        """
        # Not as last written: a worker that stood still may have written that it is refused, while others claimed.
        known = self._ledger.status(status.id)
        if known is not None and known.command is not None and known.command != status.command:
            _log.warning("command.refused id=%s reason='the id was used for another command'", status.id)
            raise NotToDo("refused")
        if known is not None and known.state in ENDED:
            raise NotToDo("known")
        return known

    def is_old(self, name: str, timestamp: int) -> bool:
        """Whether ids of that time, in ms, may be forgotten: by the broker's clock, at the last barrier for `name`."""
        age_s = self._ledger.broker_s(name) - timestamp / 1000
        return age_s > self._settings.keep_commands_days * 86_400

    def _require_young(self, status: Status, timestamp: int) -> None:
        """See that a command that the ledger does not know can't have been known once.

        It may have been carried out and forgotten, and come again because the workers' offsets were lost. The record's
        time is the broker's, as `xferq topics` sets it, or the publisher's, by default no more than an hour ahead.
        """
        if self.is_old(topic_of(status.queue_name or status.id), timestamp):
            raise Refused(
                f"the command's record is of {status.requested_at}, longer ago than ids are remembered "
                f"({self._settings.keep_commands_days:g} days, XFERQ_KEEP_COMMANDS_DAYS): it may have been carried out "
                "before. Publish it anew under another id"
            )
