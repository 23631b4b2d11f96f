"""What Faust is made to commit: the offset behind the last event that was acknowledged, whatever lies before it."""

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.kafka.connection import Connection
from streams.settings.settings import Settings
from streams.worker.agents import AckQueue, create_app

WHERE = TP("xferq.commands", 1)


@pytest.fixture
async def consumer(tmp_path: Path) -> Any:
    """Faust's consumer, that nothing is connected to."""
    settings = Settings(bootstrap_servers="nowhere.invalid:9092")
    engine: Any = None
    app = create_app(settings, engine, Connection(settings), AckQueue(), str(tmp_path))
    app.topics._acking_topics.add(WHERE.topic)
    return app.consumer


def message(offset: int, *, given: bool = True) -> ConsumerMessage:
    """One of the commands topic; whether an agent was given it."""
    made = ConsumerMessage(WHERE.topic, WHERE.partition, offset, 0, 0, None, b"", b"", None, tp=WHERE)
    made.tracked = given
    return made


def committed(consumer: Any) -> int | None:
    """What would be committed now, and is."""
    offsets: dict[TP, int] = consumer._filter_committable_offsets([WHERE])
    consumer._committed_offset.update(offsets)
    return offsets.get(WHERE)


async def test_what_lies_between_is_passed_over(consumer: Any) -> None:
    consumer._committed_offset[WHERE] = 5
    assert consumer.ack(message(7))
    assert committed(consumer) == 8
    assert committed(consumer) is None
    assert consumer.ack(message(8))
    assert consumer.ack(message(20))
    assert committed(consumer) == 21


async def test_what_comes_again_and_is_acknowledged_already_commits_nothing(consumer: Any) -> None:
    consumer._committed_offset[WHERE] = 5
    assert consumer.ack(message(5))
    assert committed(consumer) == 6
    consumer.ack(message(5))
    assert committed(consumer) is None


async def test_what_was_skipped_in_a_rebalance_is_not_acknowledged(consumer: Any) -> None:
    """Faust does so itself where it is not compiled: the commands before it would be lost."""
    consumer._committed_offset[WHERE] = 5
    consumer.ack(message(5, given=False))
    assert committed(consumer) is None


async def test_a_gap_takes_no_memory(consumer: Any) -> None:
    """And no time: the event loop would stand still meanwhile. A transaction of a million commands, aborted, say."""
    consumer._committed_offset[WHERE] = 5
    tracemalloc.start()
    try:
        await consumer._add_gap(WHERE, 6, 1_000_000)
        consumer.ack(message(5))
        consumer.ack(message(1_000_001))
        assert committed(consumer) == 1_000_002
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1_000_000
