"""The batches of the compiled drain are those of aiokafka, byte for byte, with what its producer asks of a batch."""

from typing import Any

import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.wire.batches import COMPRESSION, ENCODERS, LARGE_BYTES, DrainBatch
from streams.kafka.wire.records import UndecodedName
from tests.engine.profile import PROPERTY
from tests.native.extension import native, needs_native

pytestmark = needs_native
_bytes = st.none() | st.binary(max_size=40)
_record = st.fixed_dictionaries(
    {
        "timestamp": st.integers(0, 2**41),
        "key": _bytes,
        "value": _bytes | st.binary(min_size=3_000, max_size=3_000) | st.just(b"x" * LARGE_BYTES),
        "headers": st.lists(st.tuples(st.text(max_size=8), _bytes), max_size=4),
    }
)
_producers = st.tuples(st.integers(-1, 2**62), st.integers(-1, 2**15 - 1), st.integers(0, 2**31 - 1))


def both(limit: int, codec: int) -> tuple[Any, Any]:
    return DrainBatch(limit, codec, is_transactional=1), native().Batch(limit, codec, ENCODERS.get(codec))


def read(batch: bytes) -> list[tuple[Any, ...]]:
    (found,) = [MemoryRecords(batch).next_batch()]
    assert found is not None
    assert found.validate_crc()
    head = found.is_transactional, found.producer_id, found.next_offset
    return [head, *((r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in found)]


@given(
    records=st.lists(_record, min_size=1, max_size=8),
    codec=st.sampled_from([*COMPRESSION.values()]),
    limit=st.integers(1, 20_000),
    producer=_producers,
)
@PROPERTY
def test_the_same_batch_is_built(
    records: list[dict[str, Any]], codec: int, limit: int, producer: tuple[int, int, int]
) -> None:
    theirs, ours = both(limit, codec)
    for record in records:
        assert (ours.append(**record) is None) == (theirs.append(**record) is None)
        assert (ours.record_count(), ours.closed()) == (theirs.record_count(), theirs.closed())
        assert ours.size() == theirs.size()
    for batch in (theirs, ours):
        batch._set_producer_state(*producer)
    built, expected = ours._build(), bytes(theirs._build())
    if codec:  # ours stays as it is where that would make it larger
        assert len(built) <= len(expected)
        assert read(bytes(built)) == read(expected)
    else:
        assert bytes(built) == expected
    assert len(built) == len(bytes(built))
    assert ours._build() is built
    assert ours.closed()
    assert ours.append(**records[0]) is None


def test_a_built_batch_never_changes() -> None:
    _, batch = both(1_000, 0)
    batch.append(timestamp=1, key=None, value=b"v")
    built = batch._build()
    with memoryview(built) as view:
        assert view.readonly
        assert b"".join((b"", built)) == bytes(view)
    with pytest.raises(RuntimeError, match="built"):
        batch._set_producer_state(1, 2, 3)
    held = memoryview(built)
    expected = bytes(held)
    del built, batch
    assert bytes(held) == expected


def test_a_name_that_is_not_utf_8_goes_out_as_it_came() -> None:
    theirs, ours = both(1_000, 0)
    for batch in (theirs, ours):
        batch.append(timestamp=1, key=b"k", value=b"v", headers=[(UndecodedName(b"\xff"), b"1")])
    assert bytes(ours._build()) == bytes(theirs._build())


def test_without_a_time_it_is_now() -> None:
    _, batch = both(1_000, 0)
    batch.append(timestamp=None, key=None, value=None)
    assert int.from_bytes(bytes(batch._build())[27:35], "big") > 1_700_000_000_000
