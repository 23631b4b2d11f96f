"""The compiled drain and Python's on the same input: what differs is an error."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED

from streams.domain.claim import Claim, Kind
from streams.domain.topic import topic_of
from streams.drain.limits import Limits
from streams.drain.mover import Mover, RecordMover
from streams.drain.native_mover import NativeMover
from streams.drain.strategy import STRATEGIES
from streams.drain.transaction_batch import TransactionBatch
from streams.kafka.wire.batches import DrainBatch
from streams.kafka.wire.records import LenientRecords
from streams.kafka.wire.runs import AsRuns, RunPartitionRecords
from streams.records import Batch, Record
from streams.telemetry.metrics import MOVED_IN_PYTHON
from tests.native.extension import as_run, native
from tests.native.hostile import XFER_QUEUE

NOW = datetime(2026, 11, 30, 12, 0, 0, 123_456, tzinfo=UTC)
_BATCH_BYTES = 20_000
_LOG = "log"
_WHERE = TopicPartition("queue.a", 3)


def claim_of(kind: Kind, queue: str) -> Claim:
    return Claim(
        id="c", kind=kind, topic=topic_of(queue), topic_id="t", queue=queue, xfer_queue=XFER_QUEUE,
        reason='why "so"\r\n\xfc\x01', group="g", ranges={}, claimed_at="2026-11-29T10:00:00Z",
    )  # fmt: skip


CLAIMS = (
    claim_of("xfer.cancel", XFER_QUEUE),
    claim_of("xfer.start", 't"1@example.com'),
    claim_of("xfer.start", "other.xfer.kumomta.internal"),
)
OPTIONS: tuple[dict[str, tuple[str, ...]], ...] = (
    {},
    {"log_meta": ("x*", "queue", "no", "reception_protocol", "x-a", "*"), "log_headers": ("Subject", "X-*")},
)


def in_python() -> dict[str, float]:
    """How many messages were left to Python so far, by why."""
    samples = [sample for metric in MOVED_IN_PYTHON.collect() for sample in metric.samples]
    return {sample.labels["reason"]: sample.value for sample in samples if sample.value}


def require_same_moves(records: Sequence[Record], claim: Claim, options: dict[str, Any]) -> int:
    """See that both write the same bytes, and give the same ones back; how many were moved."""

    def python_batch(size_bytes: int | None = None, compression: str | None = None) -> Batch:
        batch: Batch = DrainBatch(size_bytes or _BATCH_BYTES, 0, is_transactional=1)
        return batch

    def native_batch(size_bytes: int | None = None, compression: str | None = None) -> Batch:
        return native().Batch(size_bytes or _BATCH_BYTES, 0, None)

    python = RecordMover(STRATEGIES[claim.kind](claim, node_id="n", **options))
    expected = _moved(python, TransactionBatch(python_batch, _BATCH_BYTES, claim.topic, _LOG, Limits()), records)
    run = as_run(claim.topic, records)
    compiled = NativeMover(native(), claim, node_id="n", **options)
    found = _moved(compiled, TransactionBatch(native_batch, _BATCH_BYTES, claim.topic, _LOG, Limits()), run)
    assert found == expected
    return int(found[1])


def _moved(mover: Mover, batch: TransactionBatch, records: Sequence[Record]) -> tuple[Any, ...]:
    """One build, as a drain does it: the topics of every second queue are known at the beginning."""
    batch.add_destinations({_LOG: 2, topic_of(XFER_QUEUE): 3, topic_of("spring:t1@d.example"): 2})
    done = mover.move(records, batch, NOW)
    assert done.consumed == len(records)
    returned, waiting = [*done.returned], [*done.waiting]
    batch.add_destinations({one.topic: 3 for one in waiting if len(one.topic) % 5})
    while waiting:
        resumed = mover.resume(waiting, batch, NOW)
        assert resumed.consumed >= 1
        assert not resumed.waiting
        returned += resumed.returned
        waiting = waiting[resumed.consumed :]
    returned.sort(key=lambda item: item[0].offset)
    mover.give_back(returned, batch, NOW)
    writes = [(write.topic, write.partition, bytes(write.batch._build())) for write in batch.writes]  # type: ignore[attr-defined]
    reasons = [(record.offset, reason) for record, reason in returned]
    return reasons, batch.restored, batch.bytes, dict(batch.reasons), writes


def require_same_reading(data: bytes, aborted: list[tuple[int, int]], start: int) -> int:
    """See that both read the same records and go on at the same offset, or fail alike; how many records."""
    expected, found = _read(data, aborted, start, None), _read(data, aborted, start, AsRuns(native()))
    assert found == expected
    return len(found[0]) if isinstance(found[0], list) else 0


def _read(data: bytes, aborted: list[tuple[int, int]], start: int, as_runs: AsRuns | None) -> tuple[Any, ...]:
    parts = RunPartitionRecords(_WHERE, LenientRecords(data), aborted, start, as_runs, None, True, READ_COMMITTED)
    try:
        items = list(parts)
    except Exception as error:  # noqa: BLE001 - a library's, of whatever was written
        return (type(error),)
    records = [*items[0], *items[1:]] if items and not hasattr(items[0], "offset") else items
    rows = [(*tuple(record)[:7], tuple((n.encode(), c) for n, c in record.headers)) for record in records]
    return rows, parts.next_fetch_offset
