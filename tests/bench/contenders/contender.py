"""What a contender is, and what it is asked to do."""

import json
import os
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Protocol

from tests.bench.stopwatch import Measured

if TYPE_CHECKING:
    from tests.bench.world import World

NODE_ID = "00000000-0000-0000-0000-000000000000"
REASON = "bench"

Ranges = dict[int, tuple[int, int]]
"""Offsets by partition: the first one included, the last one excluded."""


@dataclass(frozen=True, slots=True)
class Source:
    """One xfer topic, and where it goes besides its messages' own queues."""

    topic: str
    queue: str
    log_topic: str
    copy_topic: str
    """For contenders that only copy; as many partitions as the source."""
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Job:
    """The same for every contender; one line of JSON for those that are processes of their own.

    `transaction` is how many messages a transaction has (at most), `threads` how many shares of the partitions are
    worked on side by side: as many as an xferq worker has processes.
    """

    bootstrap: str
    name: str
    drain: Source
    warm_up: Source
    transaction: int
    destination_partitions: int
    log_partitions: int
    threads: int
    reason: str = REASON
    node_id: str = NODE_ID

    def shares(self) -> list["Job"]:
        """This job in `threads` parts with a thread each; partitions are dealt out in turn."""
        count = min(self.threads, len(self.drain.ranges))
        return [
            replace(
                self,
                name=f"{self.name}.{number}",
                threads=1,
                drain=_share(self.drain, number, count),
                warm_up=_share(self.warm_up, number, count),
            )
            for number in range(count)
        ]

    def to_json(self) -> str:
        """On one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """What `to_json` wrote."""
        values = json.loads(text)
        for name in ("drain", "warm_up"):
            ranges = {int(partition): tuple(ends) for partition, ends in values[name]["ranges"].items()}
            values[name] = Source(**{**values[name], "ranges": ranges})
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Drained:
    """What came of it; `transactions` is None where nobody counted them."""

    measured: Measured
    messages: int
    transactions: int | None = None
    memory_mb: float | None = None


class Contender(Protocol):
    """Somebody who moves messages from an xfer topic to where they belong."""

    name: str
    remark: str
    """What has to be known to compare it; empty where it does all that xferq does."""

    def why_not(self) -> str | None:
        """Why it can't take part on this machine."""
        ...

    def prepare(self) -> None:
        """Fetch and build what it needs; once, before anything is measured."""
        ...

    async def drain(self, world: "World") -> Drained:
        """Move all that `world` was filled with. The clock runs from the first read to the last commit."""
        ...


def parallel() -> int:
    """How many processes or threads each contender has: as many as a worker of xferq."""
    return min(os.cpu_count() or 1, 4)


def _share(source: Source, number: int, count: int) -> Source:
    mine = {partition: ends for partition, ends in source.ranges.items() if partition % count == number}
    return replace(source, ranges=mine)
