"""The account of a run: every message's way, checked from what lies in Kafka and what the dispatchers did."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from api.demo.corpus import ENVELOPE, Mail, fingerprint
from api.demo.envelopes import restored_problem, saved_problem
from api.demo.evidence import Evidence
from api.demo.logbook import Counts, Logbook
from streams.kafka.contents import StoredRecord

_NAMED = 3
Located = tuple[str, StoredRecord]


@dataclass(slots=True)
class Row:
    """One scheduled queue, in numbers of messages."""

    queue: str
    put_in: int = 0
    transferred: int = 0
    dispatched: int = 0
    back: int = 0
    doubled: int = 0
    lost: int = 0
    changed: int = 0
    logged_transfers: int = 0
    logged_cancels: int = 0


@dataclass(slots=True)
class Tally:
    """The whole account.

    `bound_at_claim` counts what dispatchers had polled and not committed when the claim was made,
    `bound_after` what they polled from then until each saw its eviction: only these may come twice.
    """

    rows: list[Row]
    problems: list[str] = field(default_factory=list)
    bound_at_claim: int = 0
    bound_after: int = 0

    @property
    def bound(self) -> int:
        """The most messages that may have been both dispatched and restored."""
        return self.bound_at_claim + self.bound_after

    def total(self, column: Callable[[Row], int]) -> int:
        """The sum of one column."""
        return sum(column(row) for row in self.rows)


def tally(evidence: Evidence) -> Tally:
    """Account for every message. What is not as it must be is in `problems`, in words."""
    return _Account(evidence).result


class _Account:
    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._mails = {mail.id: mail for mail in evidence.mails}
        self._rows = {mail.queue: Row(mail.queue) for mail in evidence.mails}
        self.result = Tally(list(self._rows.values()))
        self._changed: set[bytes] = set()
        self._logbook = Logbook(evidence)
        self._transferred = Counter(record.key or b"" for record in evidence.transferred)
        self._back = Counter(record.key or b"" for _, record in _located(evidence.back))
        self._dispatched = {
            polled.key or b"" for book in evidence.books for polled in book.polled if polled.sent_at is not None
        }
        self._check_put_in()
        self._check_transferred()
        self._check_back()
        self._check_doubled()
        self._check_lost()
        self._check_log()
        self._check_statuses()
        self._check_order()
        self._fill_rows()

    # ---- what went in, over and back

    def _check_put_in(self) -> None:
        evidence = self._evidence
        self._once("put in", Counter(record.key or b"" for _, record in _located(evidence.put_in)), self._mails)
        self._same_bytes("put in", _located(evidence.put_in))
        left = [record.key or b"" for _, record in _located(evidence.left)]
        self._complain("messages stayed in their scheduled queues through the transfer", left)

    def _check_transferred(self) -> None:
        evidence = self._evidence
        self._once("transferred", self._transferred, self._mails)
        self._same_bytes("transferred", ((evidence.xfer_queue, record) for record in evidence.transferred))
        self._check_envelopes(
            "transferred",
            evidence.transferred,
            lambda mail, raw: saved_problem(mail.envelope, raw, evidence.xfer_queue),
        )

    def _check_back(self) -> None:
        cancel = self._evidence.cancel
        twice = [id for id, count in self._back.items() if count > 1]
        self._complain("messages were restored more than once", twice)
        self._complain("messages came back that never went in", self._back.keys() - self._mails.keys())
        self._same_bytes("back", _located(self._evidence.back))
        self._check_envelopes(
            "back",
            (record for _, record in _located(self._evidence.back)),
            lambda mail, raw: restored_problem(mail.envelope, raw, cancel.claimed_at, cancel.finished_at),
        )
        strayed = [
            record.key or b""
            for queue, record in _located(self._evidence.back)
            if record.key in self._mails and self._mails[record.key].queue != queue
        ]
        self._complain("messages came back to another queue than their own", strayed)

    def _once(self, what: str, counts: Counts, wanted: Iterable[bytes]) -> None:
        wanted = set(wanted)
        self._complain(f"messages are missing of those {what}", wanted - counts.keys())
        self._complain(f"messages are among those {what} but were never made", counts.keys() - wanted)
        self._complain(f"messages were {what} more than once", [id for id, count in counts.items() if count > 1])

    def _same_bytes(self, when: str, found: Iterable[Located]) -> None:
        changed = set()
        for _, record in found:
            mail = self._mails.get(record.key or b"")
            if mail is not None and _print_of(record) != fingerprint(mail.id, mail.value, mail.timestamp, mail.headers):
                changed.add(mail.id)
        self._complain(f"messages {when} have other bytes, times or headers than before", changed)
        self._changed |= changed

    def _check_envelopes(
        self, when: str, found: Iterable[StoredRecord], problem_of: Callable[[Mail, bytes | None], str | None]
    ) -> None:
        wrong: dict[bytes, str] = {}
        for record in found:
            mail = self._mails.get(record.key or b"")
            if mail is None:
                continue
            envelopes = [content for name, content in record.headers if name == ENVELOPE]
            problem = problem_of(mail, envelopes[0]) if len(envelopes) == 1 else f"it has {len(envelopes)} envelopes"
            if problem is not None:
                wrong[mail.id] = problem
        self._complain(f"messages {when} have a wrong envelope", wrong, next(iter(wrong.values()), ""))
        self._changed |= wrong.keys()

    # ---- doubled and lost

    def _check_doubled(self) -> None:
        """Twice may come only what a dispatcher had not committed, and had polled before it saw its eviction."""
        evidence = self._evidence
        claimed_at = evidence.cancel.claimed_at.timestamp()
        allowed: set[bytes] = set()
        for number, book in enumerate(evidence.books, 1):
            if book.evicted_at is None and evidence.cancel.total > 0:
                self.result.problems.append(f"dispatcher {number} was never told that its messages were taken")
            until = math.inf if book.evicted_at is None else book.evicted_at
            for polled in book.polled:
                id = polled.key or b""
                # Committed after that is committed too late, by a member that has joined again.
                is_open = polled.committed_at is None or polled.committed_at > until
                if is_open and polled.polled_at <= until and id not in evidence.late | allowed:
                    allowed.add(id)
                    if polled.polled_at <= claimed_at:
                        self.result.bound_at_claim += 1
                    else:
                        self.result.bound_after += 1
        self._doubled = self._dispatched & self._back.keys()
        self._complain("messages were dispatched and restored beyond the bound", self._doubled - allowed)

    def _check_lost(self) -> None:
        remaining = {record.key or b"" for record in self._evidence.remaining}
        self._complain("messages stayed in the xfer queue through the cancel", remaining - self._evidence.late)
        self._lost = self._mails.keys() - self._dispatched - self._back.keys()
        self._complain("messages are lost, neither dispatched nor back", self._lost)
        self._complain(
            "messages that came after the cancel were not dispatched", self._evidence.late - self._dispatched
        )

    # ---- log, status, order

    def _check_log(self) -> None:
        for name, logged, moved in (
            ("transfer", self._logbook.transfers, self._transferred),
            ("cancel", self._logbook.cancels, self._back),
        ):
            self._complain(f"moves by the {name} are not in the log", moved.keys() - logged.keys())
            self._complain(f"moves by the {name} are in the log but did not happen", logged.keys() - moved.keys())
            twice = [id for id, count in logged.items() if count > 1]
            self._complain(f"moves by the {name} are in the log more than once", twice)
        if self._logbook.problems:
            self.result.problems.append(
                f"{len(self._logbook.problems)} log records are wrong: {self._logbook.problems[0]}"
            )

    def _check_statuses(self) -> None:
        evidence = self._evidence
        for name, command, moved in (
            ("transfer", evidence.transfer, self._transferred.total()),
            ("cancel", evidence.cancel, self._back.total()),
        ):
            if (command.total, command.restored, command.returned) != (moved, moved, 0):
                self.result.problems.append(
                    f"the status of the {name} says total {command.total}, restored {command.restored}, "
                    f"returned {command.returned}; {moved} were moved"
                )

    def _check_order(self) -> None:
        """What one partition of the xfer queue held stands in the same order in its scheduled queue."""
        came_from = {record.key: (record.partition, record.offset) for record in self._evidence.transferred}
        last: dict[tuple[str, int, int], int] = defaultdict(lambda: -1)
        disordered = []
        for queue, record in _located(self._evidence.back):
            if record.key in came_from:
                partition, offset = came_from[record.key]
                where = (queue, record.partition, partition)
                if last[where] > offset:
                    disordered.append(record.key or b"")
                last[where] = offset
        self._complain("messages overtook others of their partition", disordered)

    # ---- the outcome

    def _complain(self, what: str, ids: Iterable[bytes], example: str = "") -> None:
        ids = list(ids)
        if ids:
            named = ", ".join(id.decode(errors="backslashreplace") for id in ids[:_NAMED])
            more = ", ..." if len(ids) > _NAMED else ""
            self.result.problems.append(f"{len(ids)} {what}: {named}{more}{f' ({example})' if example else ''}")

    def _fill_rows(self) -> None:
        evidence = self._evidence
        for queue, records in evidence.put_in.items():
            self._rows[queue].put_in += len(records)
        for queue, records in evidence.back.items():
            self._rows[queue].back += len(records)
        for mail in evidence.mails:
            row = self._rows[mail.queue]
            row.transferred += self._transferred[mail.id]
            row.dispatched += mail.id in self._dispatched
            row.doubled += mail.id in self._doubled
            row.lost += mail.id in self._lost
            row.changed += mail.id in self._changed
            row.logged_transfers += self._logbook.transfers[mail.id]
            row.logged_cancels += self._logbook.cancels[mail.id]


def _located(queues: Mapping[str, Sequence[StoredRecord]]) -> Iterable[Located]:
    return ((queue, record) for queue, records in queues.items() for record in records)


def _print_of(record: StoredRecord) -> str:
    return fingerprint(record.key, record.value, record.timestamp, record.headers)
