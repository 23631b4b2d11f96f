"""How full a queue is, in words and for programs."""

from hypothesis import given
from hypothesis import strategies as st

from streams.domain.depth import Depth, Span

spans = st.lists(st.builds(Span, st.just("t"), st.integers(0, 3), st.integers(0, 9), st.integers(0, 9)), unique=True)


@given(spans, st.data())
def test_it_is_exact_only_where_everything_was_counted(those: list[Span], data: st.DataObject) -> None:
    counts = {span: data.draw(st.integers(0, span.offsets)) for span in those if data.draw(st.booleans())}
    depth = Depth.of(those, counts)
    full = [span for span in those if span.start < span.end]
    assert depth.exact == all(span in counts for span in full)
    if depth.exact:
        assert depth.messages == depth.at_most == sum(counts[span] for span in full)
    else:
        assert depth.messages is None
        assert depth.at_most == sum(span.end - span.start for span in full)


def test_nothing_is_no_message() -> None:
    assert Depth.of([], {}) == Depth(0, True)
    assert Depth.of([Span("t", 0, 9, 4)], {}) == Depth(0, True)


def test_how_it_is_shown() -> None:
    assert (str(Depth(3, True)), str(Depth(3, False))) == ("3", "<=3")
    assert Depth(3, True).as_json("T") == {"messages": 3, "exact": True, "at_most": 3, "as_of": "T"}
    assert Depth(3, False).as_json("T") == {"messages": None, "exact": False, "at_most": 3, "as_of": "T"}
