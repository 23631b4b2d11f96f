"""How a worker is: whether it can work at all, what waits for what, and since when nothing has gone on."""

import time
from collections.abc import Callable
from dataclasses import dataclass

_STALLED_S = 10.0
"""Errors that pass by themselves within this time are nobody's business."""
_LATE_S = 4.0
"""`Health.noted` tells of work that has waited for so long."""
_IDLE_S = 60.0
_MOST_SHOWN = 1_000


@dataclass(frozen=True, slots=True)
class _Wait:
    since: float
    why: str
    grace_s: float = 0.0


class Health:
    """A worker's tasks tell it how they get on, the probes and the metrics ask it; from any thread.

    A worker is ready when nothing that it needs for all of its work is missing, and when it gets on with
    something: one drain that waits while others go on is no reason to give the whole worker up.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or (lambda: time.monotonic())
        self._missing: dict[str, _Wait] = {}
        self._waits: dict[str, _Wait] = {}
        self._notes: dict[str, str] = {}
        self._progress = self._clock()

    def lacks(self, what: str, why: str, grace_s: float = 0.0) -> None:
        """Something that all the work needs is missing; nobody is told of it for `grace_s` seconds."""
        self._missing[what] = _Wait(self._missing.get(what, _Wait(self._clock(), "")).since, why, grace_s)

    def has(self, what: str) -> None:
        """It is there (again)."""
        self._missing.pop(what, None)

    def waits(self, work: str, why: str, for_s: float = 0.0) -> None:
        """A piece of work has failed and will be tried again; or it has been waiting for so long."""
        self._waits[work] = _Wait(self._waits.get(work, _Wait(self._clock() - for_s, "")).since, why)

    def goes_on(self, work: str) -> None:
        """A piece of work has got on."""
        self._waits.pop(work, None)
        self._progress = self._clock()

    def leaves(self, work: str) -> None:
        """A piece of work is not in this worker's share any more."""
        self._waits.pop(work, None)

    def notes(self, what: str, why: str | None) -> None:
        """Something is not as it should be, but a worker that is given up would not mend it; None: it is over."""
        if why is None:
            self._notes.pop(what, None)
        else:
            self._notes[what] = why[:_MOST_SHOWN]

    @property
    def noted(self) -> list[str]:
        """What is to be said although the worker gets on: also of the piece of work that has waited longest."""
        return [why for _, why in sorted(self._notes.items())] + self._longest_wait(_LATE_S)

    @property
    def waiting(self) -> int:
        """How many pieces of work wait after an error."""
        return len(self._waits)

    @property
    def waiting_s(self) -> float:
        """For how long the one waits that has waited longest; 0 where none does."""
        since = min((wait.since for wait in list(self._waits.values())), default=None)
        return 0.0 if since is None else self._clock() - since

    @property
    def idle_s(self) -> float:
        """How long ago the last piece of work got on, or this began."""
        return self._clock() - self._progress

    @property
    def is_idle(self) -> bool:
        """Whether nothing has got on for a while, and nothing waits or is wrong: looks may then be rarer."""
        return self.idle_s > _IDLE_S and not (self._missing or self._waits or self._notes)

    def problem(self) -> str | None:
        """Why the worker can't get on, in words; None where it can."""
        for wait in list(self._missing.values()):
            if self._clock() - wait.since >= wait.grace_s:
                return wait.why[:_MOST_SHOWN]
        if self.waiting_s > _STALLED_S and self.idle_s > _STALLED_S:
            for longest in self._longest_wait(_STALLED_S):
                return longest
        return None

    def _longest_wait(self, at_least_s: float) -> list[str]:
        """What the work waits for that has waited longest, if that is so long; one text at most."""
        waits = list(self._waits.items())  # at once: this is asked from other threads
        waits.sort(key=lambda item: item[1].since)
        for work, wait in waits[:1]:
            if (waited_s := self._clock() - wait.since) >= at_least_s:
                others = f" and {len(waits) - 1} more" if len(waits) > 1 else ""
                return [f"{work}{others} can't get on for {waited_s:.0f} s: {wait.why}"[:_MOST_SHOWN]]
        return []
