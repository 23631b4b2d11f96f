"""Partitions by topic and number, and how a message names them when there are many."""

from collections.abc import Sequence

Where = tuple[str, int]


def named(places: Sequence[str], most: int = 1) -> str:
    """The first ones, and how many more there are: `queue.a/0 and 3 more`."""
    more = f" and {len(places) - most} more" if len(places) > most else ""
    return ", ".join(places[:most]) + more
