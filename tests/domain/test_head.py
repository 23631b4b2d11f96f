"""Where a queue's content begins, and what of it may be freed."""

from hypothesis import given
from hypothesis import strategies as st

from streams.domain.head import freeable, heads_of, unknown_heads

PARTITIONS = range(3)
offsets = st.integers(0, 12)
everywhere = st.fixed_dictionaries(dict.fromkeys(PARTITIONS, offsets))
somewhere = st.dictionaries(st.sampled_from(PARTITIONS), offsets)


@given(everywhere, somewhere, somewhere)
def test_nothing_below_a_head_is_there_and_nothing_behind_it_is_gone(
    starts: dict[int, int], committed: dict[int, int], claimed: dict[int, int]
) -> None:
    heads = heads_of(starts, committed, claimed)
    assert heads.keys() == starts.keys()
    for partition, start in starts.items():
        for offset in range(13):
            is_over = offset < start or offset < committed.get(partition, 0) or offset < claimed.get(partition, 0)
            assert is_over == (offset < heads[partition])


@given(everywhere, everywhere, somewhere)
def test_a_rewound_group_changes_no_head_of_what_was_claimed(
    starts: dict[int, int], claimed: dict[int, int], rewound: dict[int, int]
) -> None:
    """A claim commits its heads to the group; whoever sets its offsets back to before that brings nothing back."""
    lower = {p: min(offset, claimed[p]) for p, offset in rewound.items()}
    assert heads_of(starts, lower, claimed) == heads_of(starts, claimed, claimed)


@given(everywhere, everywhere, everywhere, st.lists(somewhere, max_size=3))
def test_what_is_freed_lies_below_the_head_and_below_all_that_is_not_drained(
    heads: dict[int, int], starts: dict[int, int], ends: dict[int, int], undrained: list[dict[int, int]]
) -> None:
    freed = freeable(heads, starts, ends, undrained)
    for partition in PARTITIONS:
        lowest = min([heads[partition], *(claim[partition] for claim in undrained if partition in claim)])
        assert freed.get(partition) == (lowest if starts[partition] < lowest <= ends[partition] else None)


def test_a_stamp_beyond_the_head_that_is_known_tells_of_a_claim_that_is_not() -> None:
    ends = dict.fromkeys(PARTITIONS, 9)
    assert unknown_heads({0: 5, 1: 5, 2: 10}, {0: 5, 1: 4}, ends) == [1]
    assert unknown_heads({0: 1}, {}, ends) == [0]
    assert unknown_heads({}, {0: 3}, ends) == []
