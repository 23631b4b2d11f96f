"""A record of the commands topic."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from streams.domain.timestamp import format_time
from streams.records import Header

_LATEST_MS = 32_503_680_000_000
"""The year 3000."""


@dataclass(frozen=True, slots=True)
class CommandRecord:
    """What it says, and where it is; `timestamp` in ms since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes | None
    headers: Sequence[Header] = ()

    @property
    def moment(self) -> datetime:
        """When it was written, as far as that is a time: publishers may write any number."""
        return datetime.fromtimestamp(min(max(self.timestamp, 0), _LATEST_MS) / 1000, UTC)

    @property
    def written_at(self) -> str:
        """The same as RFC 3339."""
        return format_time(self.moment)

    @property
    def position(self) -> tuple[int, int, int]:
        """Partition, offset and timestamp: the last tells it from one in a topic that was made again."""
        return self.partition, self.offset, self.timestamp
