"""Metadata as we read it ourselves, beside what the libraries make of it."""

from io import BytesIO

from confluent_kafka import Uuid
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.wire.request import TopicId

halves = st.integers(-(2**63), 2**63 - 1)


@given(halves, halves)
def test_a_topics_id_is_written_as_librdkafka_writes_it(most: int, least: int) -> None:
    """Claims have it as librdkafka tells it: written otherwise, no broker would seem to know the topic."""
    raw = most.to_bytes(8, "big", signed=True) + least.to_bytes(8, "big", signed=True)
    assert TopicId.decode(BytesIO(raw)) == str(Uuid(most, least))
    assert TopicId.encode(str(Uuid(most, least))) == raw
