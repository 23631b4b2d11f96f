"""What has come of a command's claims so far: kept as they change, so that no look at it has to add up anything."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from streams.domain.claim import Claim, Progress


@dataclass(slots=True)
class Counts:
    """Of all claims of one command: how many there are, and how far their ranges have been drained."""

    queues: int = 0
    ranges: int = 0
    done: int = 0
    """Ranges that are drained."""
    lost: int = 0
    """Ranges of which records were gone before they could be drained."""
    restored: int = 0
    returned: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    offsets_total: int = 0
    offsets_done: int = 0
    first_claimed_at: str | None = None
    last_at: str | None = None
    """When a range got on last; both as RFC 3339 in UTC."""

    @property
    def are_done(self) -> bool:
        """Whether all ranges are drained, of the claims that there are."""
        return self.queues > 0 and self.done == self.ranges

    def add(self, claim: Claim) -> None:
        """One more claim."""
        self._count(claim, 1)
        self.first_claimed_at = min(self.first_claimed_at or claim.claimed_at, claim.claimed_at)

    def remove(self, claim: Claim) -> None:
        """A claim that was added is not there any more, nor what was replaced in it."""
        self._count(claim, -1)

    def replace(self, claim: Claim, partition: int, old: Progress | None, new: Progress | None) -> None:
        """The progress of one range of a claim that was added; None where there is none."""
        if partition not in claim.ranges:
            return
        if old is not None:
            self._count_step(claim.ranges[partition], old, -1)
        if new is not None:
            self._count_step(claim.ranges[partition], new, 1)
            self.last_at = max(self.last_at or new.at, new.at)

    def _count(self, claim: Claim, sign: int) -> None:
        self.queues += sign
        self.ranges += sign * len(claim.ranges)
        self.offsets_total += sign * claim.offsets_total

    def _count_step(self, claimed: tuple[int, int], step: Progress, sign: int) -> None:
        start, end = claimed
        self.done += sign * step.done
        self.lost += sign * step.lost
        self.restored += sign * step.restored
        self.returned += sign * step.returned
        self.offsets_done += sign * ((end if step.done else step.offset) - start)
        for reason, count in step.reasons.items():
            self.reasons[reason] += sign * count
            if not self.reasons[reason]:
                del self.reasons[reason]


def counts_of(claims: Iterable[Claim]) -> Counts:
    """The counts of claims of which nothing is drained yet."""
    counts = Counts()
    for claim in claims:
        counts.add(claim)
    return counts
