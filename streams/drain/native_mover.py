"""The mover that leaves what is usual to the compiled extension; `RecordMover` does the rest, in the same order."""

from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any, NamedTuple

import orjson

from streams.domain.claim import Claim
from streams.domain.log_record import rebind_content, rebind_headers, times_of_event
from streams.domain.mail_headers import HeaderNames
from streams.domain.returned import ReturnReason
from streams.domain.schedule import due_by, require_schedule
from streams.domain.timestamp import format_time
from streams.drain.mover import Done, RecordMover, Returned, Waiting, milliseconds
from streams.drain.strategy import STRATEGIES
from streams.drain.transaction_batch import TransactionBatch
from streams.native.extension import Native, floats_of
from streams.records import Record
from streams.telemetry.metrics import MOVED_IN_PYTHON

_UNKNOWN = "unknown"
"""The extension stops before what would have to wait and may not: Python knows what is refused, and the topic."""
_RESPONSE = b'{"code":250,"enhanced_code":null,"content":"'
_RESPONSE_END = b'","command":null}'


class _WaitingRun(NamedTuple):
    """One record that waits, as a run of its own."""

    topic: str
    run: Sequence[Record]


class _Schedules:
    """When a message is due by its schedule, as JSON; without a reference to the mover, which holds it."""

    def __init__(self, *, saves: bool) -> None:
        self._saves = saves
        self.time: datetime | None = None

    def __call__(self, schedule: bytes) -> bytes:
        if self._saves or self.time is None:
            require_schedule(schedule)
            return b""
        return orjson.dumps(due_by(schedule, self.time))


class NativeMover:
    """See `streams.drain.mover.Mover`. It takes runs, and hands all else to Python."""

    def __init__(
        self,
        native: Native,
        claim: Claim,
        *,
        node_id: str,
        log_meta: tuple[str, ...] = (),
        log_headers: tuple[str, ...] = (),
    ) -> None:
        """Of one claim, with the same arguments as a strategy."""
        self._native = native
        self._strategy = STRATEGIES[claim.kind](claim, node_id=node_id, log_meta=log_meta, log_headers=log_headers)
        self._python = RecordMover(self._strategy)
        saves = claim.kind == "xfer.start"
        self._schedules = _Schedules(saves=saves)
        names = HeaderNames(log_headers) if log_headers else None
        self._mover = native.Mover(
            saves=saves,
            from_queue=claim.queue.encode(),
            xfer_queue=orjson.dumps(claim.xfer_queue),
            response_head=_RESPONSE + _inside(rebind_content(claim.queue, "", "").removesuffix(": ")),
            response_tail=_inside(rebind_content("", "", claim.reason).removeprefix("Rebound from  to "))
            + _RESPONSE_END,
            node_id=orjson.dumps(node_id),
            log_meta=[(_inside(name.removesuffix("*")), name.endswith("*")) for name in log_meta],
            plus=floats_of(native),
            log_headers=[
                (name.encode(), value) for name, value in rebind_headers(claim.id, claim.kind, claim.queue, "")[:-1]
            ],
            due=self._schedules,
            headers=None if names is None else lambda value: orjson.dumps(names.logged(value)),
        )

    @staticmethod
    def can_move(claim: Claim) -> bool:
        """Whether the extension can name the queue of a transfer: one that stands in JSON as it is."""
        return _inside(claim.xfer_queue) == claim.xfer_queue.encode()

    def move(self, records: Sequence[Record], batch: TransactionBatch, now: datetime) -> Done:
        """See `Mover`."""
        if not isinstance(records, self._native.Run):
            return self._python.move(records, batch, now)
        return self._moved(records, batch, now, may_wait=not batch.is_sent)

    def resume(self, waiting: Sequence[Any], batch: TransactionBatch, now: datetime) -> Done:
        """See `Mover`; takes those that are of one kind, from the first on."""
        runs = [one.run for one in takewhile(_is_run, waiting)]
        if not runs:
            return self._python.resume(waiting[:1], batch, now)
        run: Sequence[Record] = self._native.Run.joined(runs)
        done = self._moved(run, batch, now, may_wait=True)
        left: Sequence[Any] = done.waiting
        records = (one.run[0] if _is_run(one) else one.record for one in left)
        return Done(len(run), [*done.returned, *((record, ReturnReason.DESTINATION_UNAVAILABLE) for record in records)])

    def give_back(self, returned: Sequence[Returned], batch: TransactionBatch, now: datetime) -> Done:
        """See `Mover`."""
        return self._python.give_back(returned, batch, now)

    def _moved(self, run: Sequence[Record], batch: TransactionBatch, now: datetime, *, may_wait: bool) -> Done:
        """Move a run, with Python where something is unusual; up to what would have to wait and may not."""
        if batch.slots is None:
            batch.slots = self._native.Slots()
        self._schedules.time = now
        self._mover.set_time(orjson.dumps(format_time(now)), times_of_event(now), milliseconds(now))
        returned: list[Returned] = []
        waiting: list[Waiting] = []
        at, unknown = 0, ""
        while at < len(run) and not unknown:
            at, moved, size, unknown_ones, why = self._mover.move(run, at, batch.slots, batch, may_wait)
            batch.restored += moved
            batch.bytes += size
            waiting += [_WaitingRun(topic, run[index : index + 1]) for index, topic in unknown_ones]
            if why is not None:
                if why != _UNKNOWN:
                    MOVED_IN_PYTHON.labels(reason=why).inc()
                done = self._python.move([run[at]], batch, now)
                returned += done.returned
                waiting += done.waiting
                unknown = done.unknown
                at += done.consumed
        return Done(at, returned, waiting, unknown)


def _is_run(waiting: Waiting) -> bool:
    return isinstance(waiting, _WaitingRun)


def _inside(text: str) -> bytes:
    """As it stands in JSON, without the quotes."""
    return orjson.dumps(text)[1:-1]
