"""Frames are found wherever the network cuts the stream of their bytes."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.frames import ANSWER_HEAD, Frames, Losses


@given(bodies=st.lists(st.binary(max_size=40), max_size=6), cuts=st.lists(st.integers(0, 300), max_size=10))
def test_wherever_the_stream_is_cut_the_frames_are_the_same(bodies: list[bytes], cuts: list[int]) -> None:
    sent = [ANSWER_HEAD.pack(4 + len(body), number) + body for number, body in enumerate(bodies)]
    stream = b"".join(sent)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    frames, found = Frames(ANSWER_HEAD), list[bytes]()
    for start, end in itertools.pairwise(edges):
        for head, piece in frames.cut(stream[start:end]):
            if head:
                assert head[1] == len(found)
                found.append(piece)
            else:
                found[-1] += piece
    assert found == sent


def test_what_is_too_short_for_a_head_is_no_frame() -> None:
    with pytest.raises(ValueError, match="a frame of 3 bytes"):
        list(Frames(ANSWER_HEAD).cut(struct.pack(">ii", 3, 1)))


def test_as_many_answers_are_lost_as_were_ordered() -> None:
    losses = Losses()
    losses.order(26, "cut", 2)
    assert [losses.take(api) for api in (0, None, 26, 26, 26)] == [None, None, "cut", "cut", None]
    assert losses.count == 2
    losses.order(0, "hang", 5)
    losses.order(0, "hang", 0)
    assert losses.take(0) is None
