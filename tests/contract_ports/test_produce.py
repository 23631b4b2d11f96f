"""Our encoding of a produce request against aiokafka's own, byte for byte."""

from aiokafka.protocol import produce
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.produce import LeanProduceRequest
from tests.engine.profile import PROPERTY

_STRUCTS = [getattr(produce, f"ProduceRequest_v{version}") for version in range(3, 9)]
_batches = st.lists(st.tuples(st.integers(0, 2**31 - 1), st.binary(max_size=300)), max_size=4)
_topics = st.lists(st.tuples(st.text(max_size=20), _batches), max_size=4)


@PROPERTY
@given(
    struct=st.sampled_from(_STRUCTS),
    transactional_id=st.none() | st.text(max_size=20),
    acks=st.sampled_from([-1, 0, 1]),
    timeout=st.integers(0, 2**31 - 1),
    topics=_topics,
)
def test_the_bytes_are_the_same(
    struct: type,
    transactional_id: str | None,
    acks: int,
    timeout: int,
    topics: list[tuple[str, list[tuple[int, bytes]]]],
) -> None:
    arguments = {"transactional_id": transactional_id, "required_acks": acks, "timeout": timeout, "topics": topics}
    ours = LeanProduceRequest(**arguments).build(struct)
    assert ours.encode() == produce.ProduceRequest(**arguments).build(struct).encode()
    assert type(ours) is struct


def test_every_producer_sends_it() -> None:
    from aiokafka.producer import sender

    import streams.kafka.transaction  # noqa: F401 - puts it there

    assert sender.ProduceRequest is LeanProduceRequest
