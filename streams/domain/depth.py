"""How full a queue is, as a person counts: in messages, where they were counted, else in offsets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

Undrained = Mapping[int, list[tuple[int, int]]]
"""What commands hold of a topic: by partition, ranges of offsets from the first one included to the last excluded."""


class Span(NamedTuple):
    """Offsets of one partition, from `start` up to `end` (excluded)."""

    topic: str
    partition: int
    start: int
    end: int

    @property
    def offsets(self) -> int:
        """How many."""
        return max(0, self.end - self.start)


@dataclass(frozen=True, slots=True)
class Claims:
    """What the ledger says of a queue topic: the ends of its last claims, by partition, and what is not drained."""

    heads: Mapping[int, int]
    undrained: Undrained


Claimed = Mapping[str, Callable[[str], Claims]]
"""The same for all topics of which something was claimed: by a topic's name, and then its id."""


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages there are: at most `at_most`, and exactly so many where `exact`.

    Offsets are an upper bound: transaction markers and aborted records take offsets, too.
    """

    at_most: int
    exact: bool

    @classmethod
    def of(cls, spans: list[Span], counted: Mapping[Span, int]) -> "Depth":
        """Of all the spans; those without offsets need no count."""
        full = [span for span in spans if span.offsets]
        exact = all(span in counted for span in full)
        return cls(sum(counted[span] if exact else span.offsets for span in full), exact)

    @property
    def messages(self) -> int | None:
        """The count, None where nobody has counted."""
        return self.at_most if self.exact else None

    def as_json(self, as_of: str) -> dict[str, object]:
        """For programs; `as_of` is when that was so (RFC 3339)."""
        return {"messages": self.messages, "exact": self.exact, "at_most": self.at_most, "as_of": as_of}

    def __str__(self) -> str:
        return str(self.at_most) if self.exact else f"<={self.at_most}"


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """A queue topic, by its number of partitions.

    `depth` is what is in it, from its head to the last stable offset; `held` is what commands have claimed of it and
    not drained yet. Each is None where Kafka does not tell: a partition has no leader just now, say. `stable` and
    `written` are the last stable offsets and the ends of the logs, by partition.
    """

    topic: str
    partitions: int
    depth: Depth | None
    held: Depth | None
    stable: Mapping[int, int]
    written: Mapping[int, int]
