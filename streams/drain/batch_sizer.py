"""Decides how many records one step of a drain takes: a transaction, or one call of the mover."""


class BatchSizer:
    """Fewer where steps don't end in time, down to one; more again as they do, up to what is permitted.

    A transaction that was too long for its time-out would be so again at the same size, and for ever.
    """

    def __init__(self, most: int, timeout_s: float) -> None:
        """Above half of the time-out the size is halved, below an eighth of it doubled; it begins at the most."""
        self._most = most
        self._long_s = timeout_s / 2
        self._short_s = timeout_s / 8
        self.size = most
        """Records of the next step, at most."""
        self.ended_steps = 0
        """How many steps went well."""

    def ended(self, took_s: float, *, was_full: bool = True) -> None:
        """A step went well: a transaction was committed, say. One that was not full does not show that more would."""
        self.ended_steps += 1
        if took_s > self._long_s:
            self._halve()
        elif was_full and took_s < self._short_s:
            self.size = min(self._most, self.size * 2)

    def failed(self, took_s: float) -> None:
        """A step failed, for whatever reason; one that took long was perhaps too large."""
        if took_s > self._long_s:
            self._halve()

    def _halve(self) -> None:
        self.size = max(1, self.size // 2)

    @property
    def is_full(self) -> bool:
        """Whether nothing is to be remembered."""
        return self.size == self._most
