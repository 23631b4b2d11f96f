"""The evidence of a run of the demo in which all went well, made without Kafka; tests then spoil it."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from api.demo.corpus import Mail, make_corpus
from api.demo.evidence import Book, Command, Evidence
from api.demo.letters import written_letters
from api.demo.queues import scheduled_queues
from streams.domain.claim import Claim
from streams.drain.strategy import Restore, Save
from streams.kafka.contents import StoredRecord
from streams.kafka.dispatcher import Polled

XFER_QUEUE = "http://bogus.kumomta.internal.notavalidtld/.xfer.kumomta.internal"
CLAIMED = datetime(2026, 11, 24, 10, 0, 0, 500, UTC)
FINISHED = CLAIMED + timedelta(seconds=2)
EVICTED = CLAIMED + timedelta(seconds=1)
PARTITIONS = 4


@dataclass
class Run:
    """The parts of a run, free to be changed before `evidence` puts them together."""

    mails: list[Mail]
    put_in: dict[str, list[StoredRecord]] = field(default_factory=dict)
    left: dict[str, list[StoredRecord]] = field(default_factory=dict)
    transferred: list[StoredRecord] = field(default_factory=list)
    back: dict[str, list[StoredRecord]] = field(default_factory=dict)
    remaining: list[StoredRecord] = field(default_factory=list)
    log: list[StoredRecord] = field(default_factory=list)
    books: list[Book] = field(default_factory=list)
    transfer: Command | None = None
    cancel: Command | None = None
    late: frozenset[bytes] = frozenset()

    def evidence(self) -> Evidence:
        assert self.transfer is not None
        assert self.cancel is not None
        return Evidence(
            mails=self.mails,
            xfer_queue=XFER_QUEUE,
            transfer=self.transfer,
            cancel=self.cancel,
            put_in=self.put_in,
            left=self.left,
            transferred=self.transferred,
            back=self.back,
            remaining=self.remaining,
            log=self.log,
            books=self.books,
            late=self.late,
        )


def good_run(count: int = 60) -> Run:
    """The engine's own transform on a corpus; of each xfer partition the first few messages were dispatched.

    In each partition: dispatched and committed 0-2; polled before the claim, not committed, sent 3; polled
    after it and sent 4; polled and not sent 5.
    """
    now = CLAIMED - timedelta(minutes=1)
    run = Run(make_corpus(written_letters(count), scheduled_queues("", now), now))
    start = _claim("xfer.start", "test of a transfer")
    cancel = _claim("xfer.cancel", "test of a cancel")
    for number, mail in enumerate(run.mails):
        records = run.put_in.setdefault(mail.queue, [])
        records.append(_record(number % PARTITIONS, len(records), mail, mail.headers))
        run.left[mail.queue] = []
        run.back.setdefault(mail.queue, [])
    polled: list[Polled] = []
    for number, mail in enumerate(run.mails):
        partition, offset = number % PARTITIONS, number // PARTITIONS
        before = _record(partition, offset, mail, mail.headers)
        there = Save(replace_queue(start, mail.queue), node_id="n")(before, CLAIMED)
        moved = _record(partition, offset, mail, tuple(there.headers))
        run.transferred.append(moved)
        run.log.append(_log(len(run.log), mail, there.log))
        if offset <= 5:
            polled.append(_polled(partition, offset, mail.id))
        if offset >= 3:
            home = Restore(cancel, node_id="n")(moved, CLAIMED + timedelta(seconds=1))
            assert home.queue == mail.queue
            run.back[mail.queue].append(_record(partition, offset, mail, tuple(home.headers)))
            run.log.append(_log(len(run.log), mail, home.log))
    run.books = [Book([p for p in polled if p.partition % 2 == member], EVICTED.timestamp()) for member in range(2)]
    restored = sum(len(records) for records in run.back.values())
    run.transfer = Command("test of a transfer", CLAIMED, FINISHED, count, count, 0)
    run.cancel = Command("test of a cancel", CLAIMED, FINISHED, restored, restored, 0)
    return run


def replace_queue(claim: Claim, queue: str) -> Claim:
    return claim.model_copy(update={"queue": queue})


def _claim(kind: Any, reason: str) -> Claim:
    return Claim(
        id="c",
        kind=kind,
        topic="t",
        topic_id="i",
        queue=XFER_QUEUE,
        xfer_queue=XFER_QUEUE,
        reason=reason,
        group="g",
        ranges={},
        claimed_at="2026-11-24T10:00:00Z",
    )


def _record(partition: int, offset: int, mail: Mail, headers: Any) -> StoredRecord:
    return StoredRecord(partition, offset, mail.timestamp, mail.id, mail.value, tuple(headers))


def _log(offset: int, mail: Mail, line: bytes) -> StoredRecord:
    return StoredRecord(0, offset, 0, mail.id, line, (("type", b"AdminRebind"),))


def _polled(partition: int, offset: int, id: bytes) -> Polled:
    second = timedelta(seconds=1)
    before, after = (CLAIMED - second).timestamp(), (CLAIMED + second / 2).timestamp()
    if offset <= 2:
        return Polled(partition, offset, id, before, sent_at=before, committed_at=before)
    if offset == 3:
        return Polled(partition, offset, id, before, sent_at=after)
    return Polled(partition, offset, id, after, sent_at=after if offset == 4 else None)


def with_envelope(record: StoredRecord, **changes: Any) -> StoredRecord:
    """The record with other values in its envelope."""
    headers = [
        (name, json.dumps(json.loads(content or b"") | changes).encode() if name == "envelope" else content)
        for name, content in record.headers
    ]
    return replace(record, headers=tuple(headers))
