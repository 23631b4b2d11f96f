"""The rule for a queue's head: the offset at which its content begins, by partition.

Offsets are Kafka's: a head or a start is the first one included, an end the first one excluded.
"""

from collections.abc import Iterable, Mapping


def heads_of(starts: Mapping[int, int], committed: Mapping[int, int], claimed: Mapping[int, int]) -> dict[int, int]:
    """The heads of a queue's partitions: behind all that was freed, dispatched or claimed, whichever is farthest.

    Args:
        starts: the lowest offset that is still in the log, of every partition.
        committed: what the dispatchers' group has committed; partitions without an offset are left out.
        claimed: the ends of the last claims, as the ledger tells them for this topic's id. The group's offsets should
            never lie below them, but any client may rewind them; a head holds all the same.
    """
    return {p: max(start, committed.get(p, 0), claimed.get(p, 0)) for p, start in starts.items()}


def freeable(
    heads: Mapping[int, int], starts: Mapping[int, int], ends: Mapping[int, int], undrained: Iterable[Mapping[int, int]]
) -> dict[int, int]:
    """Below which offset a queue's partitions may be freed; those with nothing to free are left out.

    Args:
        undrained: of each claim, where the ranges begin that are not drained. Nothing behind that is freed.
    """
    bounds = dict(heads)
    for claim in undrained:
        for partition in bounds.keys() & claim.keys():
            bounds[partition] = min(bounds[partition], claim[partition])
    # A head beyond the end is of an earlier topic of the same name.
    return {p: bound for p, bound in bounds.items() if starts[p] < bound <= ends[p]}


def unknown_heads(stamped: Mapping[int, int], claimed: Mapping[int, int], ends: Mapping[int, int]) -> list[int]:
    """The partitions with a claim's stamp beyond the head that the ledger knows (`claimed`); all by partition.

    A stamp beyond the log's end is of an earlier topic of the name.
    """
    return sorted(p for p, offset in stamped.items() if claimed.get(p, 0) < offset <= ends[p])
