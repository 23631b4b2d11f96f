"""Counts the committed records of a fetch by the heads of its batches; of few batches the records are looked at.

A batch's head says how many records it holds, also where compaction has removed some. Markers are batches of their own
kind, and what was aborted is told beside the batches: see Apache Kafka's DefaultRecordBatch and CompletedFetch.
"""

import struct
from collections.abc import Iterable

from streams.kafka.wire.records import LenientRecords, is_unreadable

_head = struct.Struct(">qiibIhiqqqhii")
"""Base offset, bytes that follow the length, leader epoch, magic, checksum, attributes, last offset, first and latest
time, producer, epoch, sequence, count."""
_BEFORE_LENGTH = 12
_MAGIC = 2
_TRANSACTIONAL = 0x10
_CONTROL = 0x20


class Uncountable(Exception):
    """There are batches of an older format than Kafka 0.11's, or one that can't be unpacked."""


def count_committed(raw: bytes, aborted: Iterable[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    """How many committed records from `start` to `end` (excluded) lie in `raw`, and at which offset to go on.

    `aborted` is what the response says of the partition: aborted transactions, by producer and first offset. A batch
    whose head alone has come counts as well: its records need not.

    Raises:
        Uncountable: it can't be told.
    """
    to_come = sorted(((first, producer) for producer, first in aborted), reverse=True)
    aborting: set[int] = set()
    count, at, position = 0, 0, start
    while at + _head.size <= len(raw) and position < end:
        base, length, _, magic, _, attributes, delta, _, _, producer, _, _, records = _head.unpack_from(raw, at)
        if magic != _MAGIC:
            raise Uncountable
        last, after = base + delta, at + _BEFORE_LENGTH + length
        while to_come and to_come[-1][0] <= last:
            aborting.add(to_come.pop()[1])
        if attributes & _CONTROL:
            aborting.discard(producer)
        elif not (attributes & _TRANSACTIONAL and producer in aborting):
            if base >= start and last < end:
                count += records
            elif records == delta + 1:
                count += max(0, min(last + 1, end) - max(base, start))
            elif after > len(raw):
                break
            else:
                count += _within(raw[at:after], start, end)
        position = max(position, last + 1)
        at = after
    return count, position


def _within(batch: bytes, start: int, end: int) -> int:
    """How many records of a batch that was compacted lie there."""
    try:
        found = list(LenientRecords(batch).next_batch() or ())
    except Exception as error:  # a library's, of whatever a client has written
        raise Uncountable from error
    if any(is_unreadable(record) for record in found):
        raise Uncountable
    return sum(start <= record.offset < end for record in found)
