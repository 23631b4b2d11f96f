"""What a drain does with a message: give it back to its scheduled queue, or save it into an xfer queue.

Both keep key, value, timestamp and all other headers as they are. They put a new envelope in the old one's place
among the headers.
"""

from collections.abc import Sequence
from datetime import datetime
from email.parser import BytesHeaderParser
from email.policy import compat32
from functools import lru_cache, partial
from typing import NamedTuple, Protocol

from streams.domain.claim import Claim, Kind
from streams.domain.envelope import Envelope, Restored, dump_envelope, parse_envelope, restore, save
from streams.domain.log_record import rebind_headers, rebind_record
from streams.domain.returned import NotRestorable, ReturnReason
from streams.records import Header, Record

ENVELOPE = "envelope"
_DESTINATIONS = 4096
_HEADERS_END = 256 << 10
"""Only so many bytes of a message are searched for the headers that the log carries."""


class Moved(NamedTuple):
    """A message after its move: the queue that it goes to, its headers, its log record and that one's headers."""

    queue: str
    headers: list[Header]
    log: bytes
    log_headers: list[Header]


class Strategy(Protocol):
    """What a mover does with each record. No I/O, no clock: the same record at the same time gives the same result."""

    def __call__(self, record: Record, now: datetime) -> Moved:
        """Where the record goes, and as what; it is not changed itself.

        Raises:
            NotRestorable: it goes back to the tail of where it was; the error says why.
        """
        ...


class _Rebind:
    """A message gets another envelope and goes to another queue; the log says so."""

    def __init__(
        self, claim: Claim, *, node_id: str, log_meta: tuple[str, ...] = (), log_headers: tuple[str, ...] = ()
    ) -> None:
        """Of one claim, at the node with this UUID; the log carries the named metadata and headers.

        A name of metadata that ends in `*` stands for all that begin like it.
        """
        self._from_queue = claim.queue
        self._xfer_queue = claim.xfer_queue
        self._reason = claim.reason
        self._node_id = node_id
        self._log_meta = log_meta
        self._log_headers = log_headers
        # The same for all messages between two queues.
        self._headers_to = lru_cache(_DESTINATIONS)(partial(rebind_headers, claim.id, claim.kind, claim.queue))

    def __call__(self, record: Record, now: datetime) -> Moved:
        """See `Strategy`."""
        headers = record.headers
        at = _envelope_at(headers)
        moved, queue = self._rebound(parse_envelope(headers[at][1]), now)
        value = record.value
        log = rebind_record(
            id="" if record.key is None else record.key.decode(errors="backslashreplace"),
            envelope=moved,
            queue=queue,
            from_queue=self._from_queue,
            reason=self._reason,
            size=0 if value is None else len(value),
            now=now,
            node_id=self._node_id,
            meta_names=self._log_meta,
            headers=_carried(value, self._log_headers) if self._log_headers and value is not None else None,
        )
        headers = [*headers[:at], (ENVELOPE, dump_envelope(moved)), *headers[at + 1 :]]
        return Moved(queue, headers, log, self._headers_to(queue))

    def _rebound(self, envelope: Envelope, now: datetime) -> Restored:
        """The envelope after the move, and the queue that it goes to."""
        raise NotImplementedError


class Restore(_Rebind):
    """Of a cancel: the message goes back to the scheduled queue that it came from."""

    def _rebound(self, envelope: Envelope, now: datetime) -> Restored:
        return restore(envelope, now=now, xfer_queue=self._from_queue)


class Save(_Rebind):
    """Of a transfer: the message goes into the xfer queue, with what is needed to restore it."""

    def _rebound(self, envelope: Envelope, now: datetime) -> Restored:
        queue = self._xfer_queue
        return Restored(save(envelope, xfer_queue=queue, from_queue=self._from_queue), queue)


STRATEGIES: dict[Kind, type[_Rebind]] = {"xfer.cancel": Restore, "xfer.start": Save}
"""By the command of a claim."""


def _envelope_at(headers: Sequence[Header]) -> int:
    found = -1
    for index, (name, _) in enumerate(headers):
        if name == ENVELOPE:
            if found >= 0:
                raise NotRestorable(ReturnReason.INVALID_ENVELOPE, "there is more than one envelope")
            found = index
    if found < 0 or headers[found][1] is None:
        raise NotRestorable(ReturnReason.NO_ENVELOPE, "there is no envelope")
    return found


def _carried(message: bytes, names: tuple[str, ...]) -> dict[str, str]:
    headers = BytesHeaderParser(policy=compat32).parsebytes(message[:_HEADERS_END])
    return {name: str(headers[name]) for name in names if headers[name] is not None}
