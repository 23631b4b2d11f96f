"""Pauses between attempts that fail: longer each time, and never the same for two who began together."""

import random

_MOST_DOUBLINGS = 30


def backoff_s(failures: int, first_s: float, most_s: float) -> float:
    """The pause after so many failures in a row, at least one: up to `first_s`, then twice that, up to `most_s`.

    In seconds; a random part of it, no less than half.
    """
    doublings = min(max(failures - 1, 0), _MOST_DOUBLINGS)  # after a day of failures the power is no float any more
    return random.uniform(0.5, 1) * min(most_s, first_s * 2.0**doublings)  # noqa: S311 - no secret
