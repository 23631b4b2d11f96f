"""Who has written to a partition, read from Kafka's answer at once, against aiokafka's own way of reading it."""

from io import BytesIO

from aiokafka.protocol.types import CompactArray
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.wire.describe_producers import DescribeProducers, Producers
from tests.engine.profile import PROPERTY

_int32, _int64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
_producer = st.tuples(_int64, _int32, _int32, _int64, _int32, _int64, st.just({}))


@PROPERTY
@given(producers=st.none() | st.lists(_producer, max_size=5), follows=st.binary(max_size=80))
def test_what_is_read_is_the_same(producers: list[tuple[object, ...]] | None, follows: bytes) -> None:
    encoded = Producers().encode(producers) + follows
    ours, theirs = BytesIO(encoded), BytesIO(encoded)
    read = Producers().decode(ours)
    assert _without_tags(read) == _without_tags(CompactArray(*_fields()).decode(theirs)) == _without_tags(producers)
    assert ours.tell() == theirs.tell() == len(encoded) - len(follows)


def test_elements_with_tagged_fields_are_read_too() -> None:
    alike = Producers().encode([(1, 2, 3, 4, 5, 6, {})])
    tagged = alike[:1] + alike[1:-1] + b"\x01\x00\x02ab"  # one field, of the number 0, with two bytes
    rest = BytesIO(tagged + b"and more of the answer, longer than an element is")
    assert Producers().decode(rest) == [(1, 2, 3, 4, 5, 6, {0: b"ab"})]
    assert rest.read(3) == b"and"


def test_the_request_on_the_wire() -> None:
    """By DescribeProducersRequest.json: compact lengths are one more, and tagged fields end each structure."""
    request = DescribeProducers({"ab": [0, 7]}).prepare({61: (0, 0)})
    assert request.encode() == b"\x02" + b"\x03ab" + b"\x03" + bytes(4) + bytes((0, 0, 0, 7)) + b"\0" + b"\0"


def test_an_answer() -> None:
    text = b"\0" * 4 + b"\x02" + b"\x03ab" + b"\x03"
    text += bytes((0, 0, 0, 1)) + bytes((0, 6)) + b"\0" + b"\x01" + b"\0"  # partition 1: not its leader, no message
    text += bytes((0, 0, 0, 2)) + bytes((0, 0)) + b"\x02x" + b"\x02"
    text += bytes(7) + b"\x09" + bytes(3) + b"\x01" + bytes(3) + b"\x05" + b"\xff" * 8 + b"\xff" * 4
    text += bytes(7) + b"\x2a" + b"\0" + b"\0" + b"\0" + b"\0"
    (topic,) = DescribeProducers({}).prepare({61: (0, 0)}).RESPONSE_TYPE.decode(text).topics
    assert topic == ("ab", [(1, 6, None, [], {}), (2, 0, "x", [(9, 1, 5, -1, -1, 42, 0)], {})], {})


def _fields() -> list[tuple[str, object]]:
    of = Producers().array_of
    return list(zip(of.names, of.fields, strict=True))


def _without_tags(read: list[tuple[object, ...]] | None) -> list[tuple[object, ...]] | None:
    return None if read is None else [tuple(row[:-1]) for row in read]
