"""The kinds of trouble in a fault run, how often each comes and for how long; and what all who make it share."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from tests.faults.stage import Stage

Track = Literal["workers", "brokers", "links", "network", "dispatchers", "offsets"]
TRACKS: tuple[Track, ...] = get_args(Track)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: `after_s` the one before of its track has ended, for `for_s` where it lasts."""

    kind: str
    after_s: float
    for_s: float
    dice: random.Random
    """For what else there is to choose."""


_KINDS: dict[Track, tuple[tuple[str, int, tuple[float, float]], ...]] = {
    # kind, weight, how long it lasts in s
    "workers": (
        ("kill", 4, (0.1, 3)),
        ("pause", 3, (1, 4)),
        ("pause", 2, (8, 14)),  # longer than sessions and transactions last: a zombie when it wakes up
        ("fate", 5, (8, 12)),
        ("replace", 1, (0, 0)),
        ("roll", 1, (0, 0)),
        ("visit", 1, (4, 10)),
    ),
    "brokers": (
        ("kill", 4, (0.5, 6)),
        ("stop", 2, (0.5, 4)),
        ("pause", 3, (1, 5)),
        ("pause", 2, (7, 13)),
        ("pause_two", 1, (2, 6)),
    ),
    "links": (
        ("controllers", 4, (2, 5)),
        ("controllers", 3, (7, 13)),  # longer than a broker's session: a zombie
        ("all", 2, (2, 10)),
        ("pair", 2, (2, 10)),
        ("one_way", 4, (2, 12)),
    ),
    "network": (
        ("cut", 3, (0, 0)),
        ("refuse", 2, (1, 8)),
        ("hang", 2, (1, 10)),
        ("delay", 2, (2, 8)),
        ("half_close", 2, (0, 0)),
        ("lose_answer", 8, (0.5, 3)),
    ),
    "dispatchers": (("kill", 3, (0.5, 3)), ("pause", 3, (1, 12)), ("visit", 3, (4, 9))),
    "offsets": (("rewind", 2, (0, 0)), ("forget", 2, (0, 0))),
}
_PAUSES_S: dict[Track, tuple[float, float]] = {
    "workers": (2, 7),
    "brokers": (8, 24),
    "links": (10, 30),
    "network": (5, 20),
    "dispatchers": (5, 20),
    "offsets": (8, 25),
}


def plan(track: Track, seed: int) -> Iterator[Fault]:
    """The faults of a track, without end."""
    dice = random.Random(f"{track}/{seed}")
    kinds = _KINDS[track]
    while True:
        kind, _, (shortest, longest) = dice.choices(kinds, [weight for _, weight, _ in kinds])[0]
        yield Fault(
            kind, dice.uniform(*_PAUSES_S[track]), dice.uniform(shortest, longest), random.Random(dice.random())
        )


class Trouble:
    """Base of those that make trouble of one track: a method for each of its kinds."""

    def __init__(self, stage: Stage, over: threading.Event, say: Callable[[str], None], done: "Counter[str]") -> None:
        """Describe it; `over` ends what lasts, `say` is told what is not in the plan, `done` counts it."""
        self.stage = stage
        self.over = over
        self.say = say
        self.done = done

    def make(self, fault: Fault) -> None:
        """Let it happen; when this returns it is over."""
        getattr(self, fault.kind)(fault)

    def last(self, fault: Fault) -> None:
        """Wait for as long as the fault lasts."""
        self.over.wait(fault.for_s)
