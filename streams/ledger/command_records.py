"""What the ledger's records say of commands themselves: their status, their end, whose their ids are, and what
transfers have selected. No I/O.
"""

from collections.abc import Callable, Mapping
from itertools import chain

from streams.domain.abilities import ABILITIES, lacking
from streams.domain.claim import Control, Owned, TransferCount
from streams.domain.counts import Counts
from streams.domain.selection import Chunk, Passed, Selection
from streams.domain.status import Status
from streams.domain.timestamp import InvalidTime, known_time
from streams.domain.transitions import ENDED, Event, State, can_be
from streams.ledger.values import put, read, set_value

_EVENTS: Mapping[str, Event] = {"accepted": "accepted", "waiting": "waits", "claimed": "claimed"}
"""What a status says has happened. One that has ended, an earlier version has written: its claims tell more."""


class CommandRecords:
    """By command; what has come of its claims, `LedgerView` counts."""

    abilities = ABILITIES
    """What this process can do, of what commands may need."""

    def __init__(self) -> None:
        self._statuses: dict[str, Status] = {}
        self._outcomes: dict[str, Status] = {}
        self._controls: dict[str, Control] = {}
        self._needs: dict[str, dict[str, tuple[str, ...]]] = {}
        """By command, and by what has them: the topic of a claim, or its control."""
        self._owners: dict[str, dict[str, Owned]] = {}
        """By id and nonce, in the ledger's order."""
        self._tallies: dict[str, TransferCount] = {}
        self._selections: dict[str, Selection] = {}
        self._counts: dict[str, Counts] = {}
        self._running: set[str] = set()
        self._recorded_ms: dict[str, int] = {}
        """By command, when its status, or its end, was last written, by the broker's clock."""

    def recorded_status(self, id: str) -> Status | None:
        """The command's end, or until then its status as it was last written."""
        return self._outcomes.get(id) or self._statuses.get(id)

    def outcome(self, id: str) -> Status | None:
        """The command's end; None until it is written, or where an earlier version has written it as a status."""
        return self._outcomes.get(id)

    def outcomes(self) -> list[str]:
        """The commands whose end is written."""
        return list(self._outcomes)

    @property
    def running(self) -> int:
        """How many commands have not ended, as far as their statuses say."""
        return len(self._running)

    def without_outcome(self) -> list[str]:
        """The commands that have claimed, and of which no end is written; nor by an earlier version, as a status."""
        begun = (self._counts.keys() | self._tallies.keys()) - self._outcomes.keys()
        return [id for id in begun if id in self._statuses and not self._has_ended(id)]

    def _has_ended(self, id: str) -> bool:
        status, counts = self._statuses[id], self._counts.get(id)
        return status.state == "done" and (counts is None or counts.queues <= (status.queues or 1))

    def control(self, id: str) -> Control | None:
        """What an operator wants of the command."""
        return self._controls.get(id)

    def lacking(self, id: str) -> list[str]:
        """What this process can't do, of what is needed to carry the command out: it leaves the command alone."""
        needs = self._needs.get(id)
        return [] if needs is None else lacking(chain.from_iterable(needs.values()), self.abilities)

    def left_alone(self) -> list[str]:
        """The commands that have not ended and of which something is lacking."""
        return [id for id in self._needs if id not in self._outcomes and self.lacking(id)]

    def state(self, id: str) -> State | None:
        """Where the command is, by the facts in the ledger; `claimed` from its first claim or its selection on."""
        if id in self._outcomes:
            return self._outcomes[id].state
        if id in self._counts or id in self._tallies or self.selection(id).queues is not None:
            return "claimed"
        return self._statuses[id].state if id in self._statuses else None

    def has_leftovers(self, id: str) -> bool:
        """Whether more than its end, its id and what an operator wanted is remembered of the command."""
        return any(id in known for known in (self._counts, self._tallies, self._selections, self._statuses))

    def owner_of(self, id: str) -> str | None:
        """The hash of the content of the command whose id this is: the first that wanted it; None while it is free.

        A command of an earlier version has a status, but never asked for its id.
        """
        for owned in self._owners.get(id, {}).values():
            return owned.content
        status = self.recorded_status(id)
        return None if status is None else status.command

    def unused_ids(self) -> list[tuple[str, int]]:
        """Ids of which no status tells, with when they were wanted, in ms since the epoch."""
        return [
            (id, max(owned.at_ms for owned in owners.values()))
            for id, owners in self._owners.items()
            if self.recorded_status(id) is None
        ]

    def wanted(self, id: str) -> list[str]:
        """The nonces of all processes that wanted the id."""
        return list(self._owners.get(id, ()))

    def recorded_ms(self, id: str) -> int:
        """When that was written, in ms since the epoch, by the broker's clock; 0 for a status that there is not."""
        return self._recorded_ms.get(id, 0)

    def tally(self, id: str) -> TransferCount | None:
        """How many queues the transfer `id` has claimed; None until all of them are."""
        return self._tallies.get(id)

    def selection(self, id: str) -> Selection:
        """What the transfer `id` has selected, and which queues it has passed by."""
        return self._selections.get(id) or Selection()

    def statuses(self) -> list[Status]:
        """All ends, and statuses as last written, newest first."""
        return sorted((self._statuses | self._outcomes).values(), key=_age, reverse=True)

    def _apply_to_command(self, kind: str, names: list[str], value: bytes | None, written_ms: int) -> None:
        """Take in a record by the names in its key; those of later versions are passed over."""
        match kind, names:
            case "command" | "outcome", [id]:
                self._apply_status(kind, id, read(Status, value), written_ms)
            case "control", [id]:
                control = read(Control, value)
                set_value(self._controls, id, control)
                put(self._needs, id, kind, (control and control.needs) or None)
                self._say_able(id)
            case "id", [id, nonce]:
                owned = read(Owned, value)
                put(self._owners, id, nonce, owned and owned.written_at(written_ms))
            case "selection", [_, id, nonce, number]:
                self._select(id, lambda selection: selection.put(nonce, int(number), read(Chunk, value)))
            case "passed", [topic, id]:
                self._select(id, lambda selection: selection.put_passed(topic, read(Passed, value)))
            case "tally", [_, id]:
                set_value(self._tallies, id, read(TransferCount, value))
                self._say_drained(id)
            case (("command" | "outcome" | "control" | "id" | "selection" | "passed" | "tally"), _):
                raise ValueError(f"{len(names)} names in the key of a {kind}")

    def _say_able(self, id: str) -> None:
        """Perhaps nothing is lacking any more of what the command needs."""

    def _say_drained(self, id: str) -> None:
        """Perhaps all of the command is drained now."""

    def _apply_status(self, kind: str, id: str, status: Status | None, written_ms: int) -> None:
        """Take in a status or an end. A worker that writes that a command waits may have stood still since: then that
        status counts only for what the command is, where no other record says it."""
        if kind == "outcome":
            set_value(self._outcomes, id, status)
        elif status is None or id not in self._statuses or self._can_be(id, status.state):
            set_value(self._statuses, id, status)
        recorded = self.recorded_status(id)
        if recorded is None or recorded.state in ENDED:
            self._running.discard(id)
        else:
            self._running.add(id)
        if kind == "outcome" or id not in self._outcomes:
            set_value(self._recorded_ms, id, written_ms if recorded else None)

    def _can_be(self, id: str, state: State) -> bool:
        return state in ENDED or can_be(self.state(id), _EVENTS[state])

    def _select(self, id: str, change: Callable[[Selection], None]) -> None:
        selection = self._selections.setdefault(id, Selection())
        change(selection)
        if selection.is_empty:
            del self._selections[id]


def _age(status: Status) -> tuple[float, str]:
    """By the moment, and not by its text: services write times in more than one way."""
    try:
        return known_time(status.requested_at or "").timestamp(), status.id
    except InvalidTime:
        return 0.0, status.id
