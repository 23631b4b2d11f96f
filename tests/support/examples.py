"""How many examples property tests try: as many as each says, or fewer where somebody is in a hurry (`make quick`)."""

import os

_MOST = int(os.environ.get("TEST_XFERQ_EXAMPLES") or 1_000_000)


def examples(count: int) -> int:
    """So many, or the most that is wanted of any test."""
    return min(count, _MOST)
