"""Pauses between attempts."""

from hypothesis import given
from hypothesis import strategies as st

from streams.concurrency.backoff import backoff_s


@given(st.integers(1, 10**9), st.floats(0.001, 10), st.floats(0.001, 100))
def test_a_pause_is_never_longer_than_the_longest_nor_shorter_than_half_of_what_is_due(
    failures: int, first_s: float, most_s: float
) -> None:
    due = min(most_s, first_s * 2 ** min(failures - 1, 30))
    assert due / 2 <= backoff_s(failures, first_s, most_s) <= due


def test_they_double() -> None:
    for failures in range(1, 10):
        assert 0.05 * 2 ** (failures - 1) <= backoff_s(failures, 0.1, 1e9) <= 0.1 * 2 ** (failures - 1)
