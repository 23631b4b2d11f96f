"""How long each command has stood still while nothing was in its way."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waited:
    """The longest wait: of which command, and after what sign of life."""

    seconds: float = 0.0
    id: str = ""
    last: str = ""


class Waits:
    """Told of each sign of life of each command, and again and again whether faults are in force; times in seconds.

    A command stands still since its last sign, or since the last fault has ended, whichever was later.
    """

    def __init__(self) -> None:
        self._signs: dict[str, tuple[float, str]] = {}
        self._quiet_since: float | None = None
        self.longest = Waited()

    def sign(self, id: str, what: str, now: float) -> None:
        """It was published, or got on."""
        self._signs[id] = now, what

    def ended(self, id: str) -> None:
        """It is through, with all that it has claimed."""
        self._signs.pop(id, None)

    def look(self, now: float, *, is_quiet: bool) -> None:
        """Measure."""
        if not is_quiet:
            self._quiet_since = None
            return
        if self._quiet_since is None:
            self._quiet_since = now
        for id, (since, what) in self._signs.items():
            waited_s = now - max(since, self._quiet_since)
            if waited_s > self.longest.seconds:
                self.longest = Waited(waited_s, id, what)
