"""How many messages one transaction of a drain takes."""


class Pace:
    """Fewer where transactions don't end in time, down to one; more again as they do, up to what is permitted.

    A transaction that was too long for its time-out would be so again at the same size, and for ever.
    """

    def __init__(self, most: int, timeout_s: float) -> None:
        self._most = most
        self._long_s = timeout_s / 2
        self._short_s = timeout_s / 8
        self.size = most
        """Messages of the next transaction, at most."""
        self.committed = 0
        """How many transactions have been committed."""

    def ended(self, took_s: float) -> None:
        """A transaction was committed."""
        self.committed += 1
        if took_s > self._long_s:
            self._halve()
        elif took_s < self._short_s:
            self.size = min(self._most, self.size * 2)

    def failed(self, took_s: float) -> None:
        """A transaction was not committed, for whatever reason; one that took long was perhaps too large."""
        if took_s > self._long_s:
            self._halve()

    def _halve(self) -> None:
        self.size = max(1, self.size // 2)

    @property
    def is_full(self) -> bool:
        """Whether nothing is to be remembered."""
        return self.size == self._most
