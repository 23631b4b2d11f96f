"""How far each claimed range has been drained, as the ledger's records say."""

from streams.domain.claim import Claim, Progress

PROGRESS_KINDS = ("drained", "progress")
"""What the keys of such records begin with: today's, and those of earlier versions."""


class RangeProgress:
    """By queue topic, partition and command; what earlier versions have written counts where there is no other."""

    def __init__(self) -> None:
        self._steps: dict[str, dict[tuple[str, int, str], Progress]] = {kind: {} for kind in PROGRESS_KINDS}

    def put(self, kind: str, topic: str, partition: int, id: str, step: Progress | None) -> None:
        """Take in a record, of a kind of `PROGRESS_KINDS`; None removes."""
        steps = self._steps[kind]
        steps.pop((topic, partition, id), None)
        if step is not None:
            steps[topic, partition, id] = step

    def of(self, topic: str, partition: int, id: str, claim: Claim | None) -> Progress | None:
        """How far the range is, if that is said of this claim; None for any."""
        step, earlier = (steps.get((topic, partition, id)) for steps in self._steps.values())
        if step is not None and (claim is None or step.is_of(claim)):
            return step  # at least as far
        if earlier is not None and (claim is None or earlier.is_of_earlier(claim, partition)):
            return earlier
        return None

    def ranges(self) -> list[tuple[str, int, str]]:
        """All ranges of which something is said, but by earlier versions."""
        return list(self._steps["drained"])

    def has_earlier(self, topic: str, partition: int, id: str) -> bool:
        """Whether an earlier version has written about the range."""
        return (topic, partition, id) in self._steps["progress"]
