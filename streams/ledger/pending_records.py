"""The commands that wait for long, as the ledger keeps them: their records, in the commands topic's order."""

from bisect import insort
from collections.abc import Sequence
from operator import itemgetter

Position = tuple[int, int, int]
"""Partition and offset in the commands topic, and timestamp in ms."""


def position_of(numbers: Sequence[str]) -> Position:
    """The position that is written like this.

    Raises:
        ValueError: it is none.
    """
    partition, offset, timestamp = map(int, numbers)
    return partition, offset, timestamp


class PendingRecords:
    """By name: that of the queue's topic, as a rule. Of one name, those of each partition go in their order."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, Position], bytes] = {}
        self._in_order: dict[str, dict[int, list[Position]]] = {}

    def put(self, name: str, position: Position, value: bytes | None) -> None:
        """Keep a record; with None, not any more."""
        key, partition = (name, position), position[0]
        if value is not None:
            if key not in self._values:
                insort(self._in_order.setdefault(name, {}).setdefault(partition, []), position)
            self._values[key] = value
        elif self._values.pop(key, None) is not None:
            partitions = self._in_order[name]
            partitions[partition].remove(position)
            if not partitions[partition]:
                del partitions[partition]
            if not partitions:
                del self._in_order[name]

    def names(self) -> list[str]:
        """The names of which there is any."""
        return list(self._in_order)

    def first(self, name: str) -> tuple[Position, bytes] | None:
        """Whose turn it is; of the first of several partitions the oldest one."""
        heads = [positions[0] for positions in self._in_order.get(name, {}).values()]
        if not heads:
            return None
        position = min(heads, key=itemgetter(2))
        return position, self._values[name, position]

    def behind(self, name: str, first: Position) -> list[tuple[Position, bytes]]:
        """All others of the name."""
        every = [position for positions in self._in_order.get(name, {}).values() for position in positions]
        return [(position, self._values[name, position]) for position in every if position != first]

    def holds(self, name: str, position: Position) -> bool:
        """Whether that very record is kept."""
        return (name, position) in self._values

    def is_behind(self, name: str, position: Position) -> bool:
        """Whether one is kept that came before it, in the same partition."""
        earlier = self._in_order.get(name, {}).get(position[0])
        return earlier is not None and earlier[0] < position
