"""What a topic takes that has turned a write down: `Destinations` learns it, the mover keeps to it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """By topic; a topic that is not named takes all that it was given so far."""

    sizes: dict[str, int] = field(default_factory=dict)
    """The largest batch in bytes."""
    times: dict[str, tuple[int, int]] = field(default_factory=dict)
    """How much older and newer than now a record may be, in ms."""

    def nearest(self, topic: str, timestamp: int, now_ms: int) -> int:
        """The timestamp in ms if the topic takes it, or else the nearest one that it takes."""
        if topic not in self.times:
            return timestamp
        older, newer = self.times[topic]
        return min(max(timestamp, now_ms - older), now_ms + newer)
