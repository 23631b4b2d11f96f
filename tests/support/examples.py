"""How many examples tests try: as many as each says, or fewer where somebody is in a hurry (`make quick`)."""

import os
from collections.abc import Sequence
from typing import TypeVar

_Case = TypeVar("_Case")
MOST = "TEST_XFERQ_EXAMPLES"
"""The variable of who is in a hurry: the most examples of each test."""
IN_A_HURRY = 8
_MOST = int(os.environ.get(MOST) or 1_000_000)


def examples(count: int) -> int:
    """So many, or the most that is wanted of any test."""
    return min(count, _MOST)


def some(cases: Sequence[_Case]) -> Sequence[_Case]:
    """All cases of many that are alike, or every fourth where somebody is in a hurry."""
    return cases if len(cases) < _MOST else cases[::4]
