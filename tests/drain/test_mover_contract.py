"""What any mover has to keep, whatever it is written in: nothing lost, nothing twice, nothing changed, in order.

Its batches are looked at as the bytes that Kafka gets. Another implementation is one more row of `IMPLEMENTATIONS`.
"""

import copy
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.claim import Claim, Kind
from streams.domain.returned import NotRestorable, ReturnReason
from streams.domain.topic import topic_of
from streams.drain.limits import Limits
from streams.drain.mover import Done, Mover, RecordMover
from streams.drain.native_mover import NativeMover
from streams.drain.strategy import STRATEGIES, Strategy
from streams.drain.transaction_batch import TransactionBatch
from streams.kafka.wire.batches import COMPRESSION, ENCODERS, DrainBatch
from streams.records import Batch, Record, Write
from streams.unopened import Unopened
from tests.engine.profile import PROPERTY
from tests.engine.world import envelope
from tests.fakes.log import FakeRecord
from tests.native.extension import as_run, native, needs_native

XFER_QUEUE = "http://bogus.example/.xfer.kumomta.internal"
QUEUE = "t@example.com"
LOG = "xferq.log"
NOW = datetime(2026, 11, 29, 12, 0, 0, 123_000, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
BATCH_BYTES = 9_000
SMALL, RECENT, REFUSED = (topic_of(f"{name}.example") for name in ("small", "recent", "refused"))
HOMES = ("a.example", "b.example", "c.example", "small.example", "recent.example", "refused.example")
LARGE = 3_000
"""Bytes of a value that is too large where a size is limited; all others are far smaller."""


def claim_of(kind: Kind) -> Claim:
    queue = XFER_QUEUE if kind == "xfer.cancel" else QUEUE
    return Claim(
        id="c", kind=kind, topic=topic_of(queue), topic_id="t", queue=queue, xfer_queue=XFER_QUEUE, reason="why",
        group="g", ranges={}, claimed_at="2026-11-29T10:00:00Z",
    )  # fmt: skip


def strategy_of(claim: Claim) -> Strategy:
    return STRATEGIES[claim.kind](claim, node_id="n", log_meta=("x*",), log_headers=("Subject",))


class Implementation(NamedTuple):
    mover: Callable[[Claim], Mover]
    new_batch: Callable[..., Batch]
    records: Callable[[Claim, Sequence[Record]], Sequence[Record]]
    """What a reader would give for these."""


def new_batch(size_bytes: int | None = None, compression: str | None = None) -> Batch:
    batch: Batch = DrainBatch(size_bytes or BATCH_BYTES, COMPRESSION[compression or "none"], is_transactional=1)
    return batch


def native_batch(size_bytes: int | None = None, compression: str | None = None) -> Batch:
    codec = COMPRESSION[compression or "none"]
    return native().Batch(size_bytes or BATCH_BYTES, codec, ENCODERS.get(codec))


def run_of(claim: Claim, records: Sequence[Record]) -> Sequence[Record]:
    return records if any(isinstance(record, Unopened) for record in records) else as_run(claim.topic, records)


def native_mover(claim: Claim) -> Mover:
    return NativeMover(native(), claim, node_id="n", log_meta=("x*",), log_headers=("Subject",))


IMPLEMENTATIONS = {
    "python": Implementation(lambda claim: RecordMover(strategy_of(claim)), new_batch, lambda _, records: records),
    "native": Implementation(native_mover, native_batch, run_of),
}


# ---- what is moved


@dataclass
class Drain:
    """Builds, each of which is moved as a whole: records of one partition, or one batch that is not unpacked."""

    claim: Claim
    partition: int
    builds: list[list[Record]]
    known: dict[str, int]
    """The destinations that the batch knows from the beginning."""
    there: dict[str, int]
    """Those that a look-up finds."""
    limits: Limits = field(default_factory=Limits)

    def records(self) -> Iterator[Record]:
        return (record for build in self.builds for record in build)


def _envelope_headers(kind: str, home: str, queue: str) -> list[tuple[str, bytes]]:
    good = ("envelope", envelope(queue, saved={"queue": home, "num_attempts": 1}, **{"x-other": [1.5, None]}))
    match kind:
        case "two envelopes":
            return [good, ("between", b""), good]
        case "no envelope":
            return []
        case "no json":
            return [("envelope", b"{no")]
        case "no saved info":
            return [("envelope", envelope(queue))]
        case "no queue":
            return [("envelope", envelope(queue, saved={"queue": XFER_QUEUE}))]
        case "long log line":
            return [("envelope", envelope(queue, saved={"queue": home}, sender="s" * LARGE))]
    return [good]


KINDS = (
    *["good"] * 6, "large", "long log line", "two envelopes", "no envelope", "no json", "no saved info", "no queue",
)  # fmt: skip
others = st.lists(
    st.tuples(st.sampled_from(["x", "x-\xe4", "type"]), st.sampled_from([b"", b"1", b"\xff\0"])), max_size=2
)


@st.composite
def records(draw: st.DrawFn, claim: Claim, partition: int, offset: int) -> FakeRecord:
    kind = draw(st.sampled_from(KINDS))
    before, after = draw(others), draw(others)
    headers = _envelope_headers(kind, draw(st.sampled_from(HOMES)), claim.queue)
    small = draw(st.none() | st.sampled_from([b"", b"Subject: a\r\n\r\nbody", b"\0\xff" * 50]))
    return FakeRecord(
        partition,
        offset,
        NOW_MS + draw(st.sampled_from([0, -1, -2 * HOUR_MS, 2 * HOUR_MS, -30 * DAY_MS])),
        draw(st.none() | st.sampled_from([b"", b"key", b"\xff"])),
        b"x" * LARGE if kind == "large" else small,
        (("number", b"%d" % offset), *before, *headers, *after),
    )


@st.composite
def drains(draw: st.DrawFn) -> Drain:
    kind: Kind = draw(st.sampled_from(["xfer.cancel", "xfer.start"]))
    claim, partition = claim_of(kind), draw(st.integers(0, 5))
    builds: list[list[Record]] = []
    offset = draw(st.integers(0, 3))
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.integers(0, 5)) == 0:
            builds.append([unopened(partition, offset + 2, 3)])
            offset += 3
            continue
        build: list[Record] = []
        for _ in range(draw(st.integers(0, 12))):
            build.append(draw(records(claim, partition, offset)))
            offset += draw(st.integers(1, 3))
        builds.append(build)
    topics = [*map(topic_of, HOMES)] if kind == "xfer.cancel" else [topic_of(XFER_QUEUE)]
    counts = {topic: draw(st.integers(1, 4)) for topic in topics if topic != REFUSED}
    always = {LOG: draw(st.integers(1, 3)), claim.topic: 6}
    known = {topic: count for topic, count in counts.items() if draw(st.booleans())}
    limits = Limits()
    for topic in draw(st.sets(st.sampled_from([SMALL, LOG, claim.topic, topic_of(XFER_QUEUE)]))):
        limits.sizes[topic] = 2_500
    for topic in draw(st.sets(st.sampled_from([RECENT, claim.topic, topic_of(XFER_QUEUE)]))):
        limits.times[topic] = (HOUR_MS, HOUR_MS)
    # Nothing is known before the first look-up: not even the log.
    return Drain(claim, partition, builds, known | always if known else {}, counts | always, limits)


def unopened(partition: int, offset: int, count: int) -> Unopened:
    batch = new_batch(1 << 20)
    for number in range(count):
        headers = [("number", b"%d" % (offset - count + 1 + number))]
        batch.append(timestamp=NOW_MS, key=b"k", value=b"unopened", headers=headers)
    return Unopened(partition, offset, NOW_MS, count, batch)


# ---- what comes of it


class Row(NamedTuple):
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def number(self) -> int:
        """Which record it is, by its offset."""
        return int(dict(self.headers)["number"])

    @property
    def others(self) -> list[tuple[str, bytes]]:
        return [header for header in self.headers if header[0] != "envelope"]


@dataclass
class Result:
    writes: list[tuple[str, int, bytes]]
    restored: int
    reasons: dict[str, int]
    bytes: int
    returned: dict[int, ReturnReason]

    def rows(self) -> dict[tuple[str, int], list[Row]]:
        """By partition, as a reader gets them."""
        found = defaultdict(list)
        for topic, partition, raw in self.writes:
            found[topic, partition] += rows_of(raw)
        return found


def rows_of(raw: bytes) -> list[Row]:
    found = []
    batches = MemoryRecords(raw)
    while (batch := batches.next_batch()) is not None:
        found += [Row(r.timestamp, r.key, r.value, tuple(r.headers)) for r in batch]
    return found


class Slices:
    """Calls a mover with slices of these sizes, in turn, and sees that it takes no more than it is given."""

    def __init__(self, sizes: Sequence[int], batch: TransactionBatch) -> None:
        self._sizes = sizes
        self._batch = batch
        self._calls = 0

    def all(self, call: Callable[..., Done], items: Sequence[Any]) -> Done:
        at, returned, waiting = 0, [], []
        while at < len(items):
            some = items[at : at + self._sizes[self._calls % len(self._sizes)]]
            self._calls += 1
            restored, known = self._batch.restored, dict(self._batch.partitions)
            done = call(some, self._batch, NOW)
            assert (0 if done.unknown else 1) <= done.consumed <= len(some)
            if call.__name__ != "give_back":
                assert done.consumed == self._batch.restored - restored + len(done.returned) + len(done.waiting)
            assert self._batch.partitions == known
            at += done.consumed
            returned += done.returned
            waiting += done.waiting
            if done.unknown:
                return Done(at, returned, waiting, done.unknown)
        return Done(at, returned, waiting)


def run(implementation: Implementation, drain: Drain, sizes: Sequence[int] = (1_000,)) -> Result:
    batch = TransactionBatch(implementation.new_batch, BATCH_BYTES, drain.claim.topic, LOG, drain.limits)
    batch.add_destinations(drain.known)
    mover, slices = implementation.mover(drain.claim), Slices(sizes, batch)
    all_returned = {}
    for build in drain.builds:
        done = slices.all(mover.move, implementation.records(drain.claim, build))
        returned = [*done.returned]
        if done.waiting:
            topics = {waiting.topic for waiting in done.waiting}
            assert not topics & batch.partitions.keys()
            batch.add_destinations({topic: n for topic, n in drain.there.items() if topic in {*topics, LOG}})
            resumed = slices.all(mover.resume, done.waiting)
            assert not resumed.waiting
            returned += resumed.returned
        returned.sort(key=lambda item: item[0].offset)
        back = slices.all(mover.give_back, returned)
        assert not back.returned
        assert not back.waiting
        all_returned |= {record.offset: reason for record, reason in returned}
    writes = [(write.topic, write.partition, built(write.batch)) for write in batch.writes]
    return Result(writes, batch.restored, dict(batch.reasons), batch.bytes, all_returned)


def run_in_parts(implementation: Implementation, drain: Drain, sizes: Sequence[int]) -> Result:
    """The same, where what is full is sent after each build; what has to wait then begins a new transaction."""

    def begin() -> TransactionBatch:
        batch = TransactionBatch(implementation.new_batch, BATCH_BYTES, drain.claim.topic, LOG, drain.limits)
        batch.add_destinations({topic: n for topic, n in drain.there.items() if topic in known})
        batch.refused = refused
        return batch

    known, refused = {*drain.known}, {REFUSED}
    sent: list[Write] = []
    done: list[TransactionBatch] = []
    batch, mover = begin(), implementation.mover(drain.claim)
    for build in drain.builds:
        rest = implementation.records(drain.claim, build)
        while len(rest):
            moved = Slices(sizes, batch).all(mover.move, rest)
            assert not batch.is_sent or {waiting.topic for waiting in moved.waiting} <= refused
            returned = [*moved.returned]
            if moved.waiting:
                known |= {waiting.topic for waiting in moved.waiting} - refused | {LOG}
                batch.add_destinations({topic: n for topic, n in drain.there.items() if topic in known})
                returned += Slices(sizes, batch).all(mover.resume, moved.waiting).returned
            returned.sort(key=lambda item: item[0].offset)
            Slices(sizes, batch).all(mover.give_back, returned)
            rest = rest[moved.consumed :]
            if moved.unknown:
                assert batch.is_sent
                assert moved.unknown not in batch.partitions
                sent += batch.writes
                done.append(batch)
                batch = begin()
        sent += batch.take(0)
    done.append(batch)
    reasons = sum((Counter(one.reasons) for one in done), Counter[str]())
    writes = [(write.topic, write.partition, built(write.batch)) for write in sent]
    return Result(writes, sum(one.restored for one in done), dict(reasons), sum(one.bytes for one in done), {})


def built(batch: Any) -> bytes:
    """The bytes that go to Kafka; those of a batch that is used by several runs don't change."""
    return bytes(batch._build())


# ---- what is expected


def reason_of(drain: Drain, record: Record) -> tuple[str, ReturnReason | None]:
    """The topic where the record has to go, and why it can't, where that is so."""
    try:
        topic = topic_of(strategy_of(drain.claim)(record, NOW).queue)
    except NotRestorable as error:
        return drain.claim.topic, error.code
    why = None
    if topic not in drain.there:
        why = ReturnReason.DESTINATION_UNAVAILABLE
    elif drain.limits.nearest(topic, record.timestamp, NOW_MS) != record.timestamp:
        why = ReturnReason.TIMESTAMP
    else:
        envelope_bytes = sum(len(value) for name, value in record.headers if name == "envelope")
        is_large = len(record.value or b"") >= LARGE or envelope_bytes >= LARGE
        if (is_large and topic in drain.limits.sizes) or (envelope_bytes >= LARGE and LOG in drain.limits.sizes):
            why = ReturnReason.TOO_LARGE
    return (topic, None) if why is None else (drain.claim.topic, why)


def places_of(drain: Drain) -> dict[int, tuple[str, int]]:
    """Where each record has to be, by its offset."""
    places = {}
    for record in drain.records():
        if isinstance(record, Unopened):
            numbers = range(record.offset - record.count + 1, record.offset + 1)
            places |= dict.fromkeys(numbers, (drain.claim.topic, drain.partition))
            continue
        topic, why = reason_of(drain, record)
        places[record.offset] = topic, drain.partition % drain.there[topic] if why is None else drain.partition
    return places


contract = pytest.mark.parametrize(
    "implementation",
    [
        pytest.param(implementation, id=name, marks=needs_native if name == "native" else ())
        for name, implementation in IMPLEMENTATIONS.items()
    ],
)
slices = st.lists(st.integers(1, 7), min_size=1, max_size=5)


@contract
@given(drain=drains(), sizes=slices)
@PROPERTY
def test_every_record_is_in_exactly_one_place(implementation: Implementation, drain: Drain, sizes: list[int]) -> None:
    rows = run(implementation, drain, sizes).rows()
    found = [(row.number, where) for where, there in rows.items() if where[0] != LOG for row in there]
    assert Counter(found) == Counter(places_of(drain).items())


@contract
@given(drain=drains(), sizes=slices)
@PROPERTY
def test_every_record_is_as_it_was(implementation: Implementation, drain: Drain, sizes: list[int]) -> None:
    """But for the envelope of what is moved, and a timestamp that its own queue would not take back."""
    before = {record.offset: record for record in drain.records()}
    strategy = strategy_of(drain.claim)
    for (topic, _), rows in run(implementation, drain, sizes).rows().items():
        for row in rows if topic != LOG else ():
            record = before.get(row.number)
            if record is None or isinstance(record, Unopened):
                assert row == Row(NOW_MS, b"k", b"unopened", row.headers)
                continue
            assert (row.key, row.value) == (record.key, record.value)
            if topic == drain.claim.topic:
                assert row.headers == record.headers
                assert row.timestamp == drain.limits.nearest(topic, record.timestamp, NOW_MS)
            else:
                assert row.headers == tuple(strategy(record, NOW).headers)
                assert row.others == [header for header in record.headers if header[0] != "envelope"]
                assert [name for name, _ in row.headers] == [name for name, _ in record.headers]
                assert row.timestamp == record.timestamp


@contract
@given(drain=drains(), sizes=slices)
@PROPERTY
def test_the_order_is_kept(implementation: Implementation, drain: Drain, sizes: list[int]) -> None:
    """In each destination's partition, and at the tail of the source also for those that were turned down last."""
    for (topic, _), rows in run(implementation, drain, sizes).rows().items():
        if topic != LOG:
            numbers = [row.number for row in rows]
            assert numbers == sorted(numbers)


@contract
@given(drain=drains(), sizes=slices)
@PROPERTY
def test_what_is_moved_is_logged(implementation: Implementation, drain: Drain, sizes: list[int]) -> None:
    """Once, at the time of the move; of each build first what did not wait, as it was written."""
    result = run(implementation, drain, sizes)
    strategy = strategy_of(drain.claim)
    expected: list[Record] = []
    known: set[str | None] = {*drain.known}
    for build in drain.builds:
        moved = [r for r in build if not isinstance(r, Unopened) and reason_of(drain, r)[1] is None]
        at_once = [record for record in moved if reason_of(drain, record)[0] in known]
        expected += [*at_once, *(record for record in moved if record not in at_once)]
        known |= {bound_for(strategy, record) for record in build}
    moved = [(record.key, strategy(record, NOW)) for record in expected]
    lines = [Row(NOW_MS, key, message.log, tuple(message.log_headers)) for key, message in moved]
    rows = {where: there for where, there in result.rows().items() if where[0] == LOG}
    assert rows == ({(LOG, drain.partition % drain.there[LOG]): lines} if lines else {})


def bound_for(strategy: Strategy, record: Record) -> str | None:
    """The topic that the strategy sends it to, whether that takes it or not."""
    try:
        return None if isinstance(record, Unopened) else topic_of(strategy(record, NOW).queue)
    except NotRestorable:
        return None


@contract
@given(drain=drains(), sizes=slices)
@PROPERTY
def test_all_is_counted(implementation: Implementation, drain: Drain, sizes: list[int]) -> None:
    result = run(implementation, drain, sizes)
    expected = {}
    counts: Counter[str] = Counter()
    for record in drain.records():
        is_whole = isinstance(record, Unopened)
        why = ReturnReason.BATCH_TOO_LARGE if is_whole else reason_of(drain, record)[1]
        if why is not None:
            expected[record.offset] = why
            counts[why.value] += record.count if isinstance(record, Unopened) else 1
    assert result.returned == expected
    assert result.reasons == counts
    assert result.restored == sum(1 for _ in drain.records()) - len(expected)


@contract
@given(drain=drains(), sizes=slices)
@PROPERTY
def test_slices_make_no_difference(implementation: Implementation, drain: Drain, sizes: list[int]) -> None:
    assert run(implementation, drain, sizes) == run(implementation, drain)


@contract
@given(drain=drains(), sizes=slices)
@PROPERTY
def test_the_same_gives_the_same_and_changes_nothing(
    implementation: Implementation, drain: Drain, sizes: list[int]
) -> None:
    before = copy.deepcopy([record for record in drain.records() if not isinstance(record, Unopened)])
    limits = copy.deepcopy(drain.limits)
    first = run(implementation, drain, sizes)
    assert run(implementation, drain, sizes) == first
    assert [record for record in drain.records() if not isinstance(record, Unopened)] == before
    assert drain.limits == limits


@contract
@given(drain=drains(), sizes=slices)
@PROPERTY
def test_no_batch_is_larger_than_permitted(implementation: Implementation, drain: Drain, sizes: list[int]) -> None:
    for topic, _, raw in run(implementation, drain, sizes).writes:
        limit = min(BATCH_BYTES, drain.limits.sizes.get(topic, BATCH_BYTES))
        assert len(raw) <= limit or (topic == drain.claim.topic and len(rows_of(raw)) == 1)


@contract
@given(drain=drains(), sizes=slices)
@PROPERTY
def test_parts_make_no_difference(implementation: Implementation, drain: Drain, sizes: list[int]) -> None:
    """Nothing but new destinations waits in what is partly sent; the same goes to the same places in the same order."""
    whole, parts = run(implementation, drain), run_in_parts(implementation, drain, sizes)
    assert (parts.restored, parts.reasons, parts.bytes) == (whole.restored, whole.reasons, whole.bytes)
    expected, found = whole.rows(), parts.rows()
    assert found.keys() == expected.keys()
    for where, rows in expected.items():
        # The log's records are in the order of the moves.
        assert found[where] == rows if where[0] != LOG else Counter(found[where]) == Counter(rows)


@needs_native
@given(drain=drains(), sizes=slices)
@PROPERTY
def test_both_write_the_same_bytes(drain: Drain, sizes: list[int]) -> None:
    """The same batches, begun in the same order."""
    assert run(IMPLEMENTATIONS["native"], drain, sizes) == run(IMPLEMENTATIONS["python"], drain)
