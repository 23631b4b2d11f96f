"""Our encoding of a produce request against aiokafka's own, byte for byte."""

import struct as packing
from typing import Any

import aiokafka
import pytest
from aiokafka.protocol import produce
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import Misconfigured
from streams.kafka.wire.batches import LARGE_BYTES, DrainBatch
from streams.kafka.wire.install import install
from streams.kafka.wire.produce import LeanProduceRequest
from tests.engine.profile import PROPERTY


def sent(request: Any, header: bytes = b"header") -> bytes:
    """What goes into the socket, put together as aiokafka's connection does it."""
    message = header + request.encode()
    whole = packing.pack(">i", len(message)) + message
    assert type(whole) is bytes
    return whole


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
    assert sent(ours) == sent(produce.ProduceRequest(**arguments).build(struct))
    assert type(ours) is struct


def test_batches_in_pieces_are_sent_whole() -> None:
    batch = DrainBatch(100_000, 0, is_transactional=1)
    for size in (LARGE_BYTES, 0, 70_000):
        assert batch.append(timestamp=1, key=b"k", value=b"v" * size, headers=[("a", b"1")]) is not None
    pieces = batch._build()
    arguments = {"transactional_id": "id", "required_acks": -1, "timeout": 1}
    for version in _STRUCTS:
        ours = LeanProduceRequest(**arguments, topics=[("t", [(0, pieces), (1, b"x")])]).build(version)
        theirs = produce.ProduceRequest(**arguments, topics=[("t", [(0, bytes(pieces)), (1, b"x")])]).build(version)
        assert sent(ours) == sent(theirs)


def test_every_producer_sends_it() -> None:
    from aiokafka.producer import sender

    install()
    assert sender.ProduceRequest is LeanProduceRequest


def test_another_version_of_aiokafka_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiokafka, "__version__", "0.15.0")
    with pytest.raises(Misconfigured, match=r"aiokafka 0\.15\.0 is installed, but xferq needs 0\.14\.x"):
        install()
