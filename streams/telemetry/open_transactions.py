"""Transactions that are open: for how long the oldest of them has been seen."""

import time
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

_Where = TypeVar("_Where", bound=Hashable)


class OpenTransactionAge(Generic[_Where]):
    """Told again and again, by partition, where readers of committed records stop and where the log ends.

    A partition's last stable offset is the first record of its oldest open transaction. While it stands there, short
    of the end, that one is open; what comes behind it does not count.
    """

    def __init__(self) -> None:
        self._since: dict[_Where, tuple[int, float]] = {}

    def look(self, stable: Mapping[_Where, int], written: Mapping[_Where, int]) -> float:
        """For how long, in seconds, the oldest has been seen; 0 where none is open.

        Both are for all partitions that are looked at.
        """
        now = time.monotonic()
        self._since = {
            where: (end, self._since[where][1] if self._since.get(where, (None,))[0] == end else now)
            for where, end in stable.items()
            if end < written.get(where, end)
        }
        return max((now - since for _, since in self._since.values()), default=0.0)

    def open_for(self, seconds: float) -> list[_Where]:
        """The partitions where, by the last look, one has been seen for so long."""
        now = time.monotonic()
        return [where for where, (_, since) in self._since.items() if now - since >= seconds]
