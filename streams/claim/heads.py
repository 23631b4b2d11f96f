"""A queue's heads: where its dispatchers' group stands, and what the ledger says was claimed."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from streams.concurrency.deadline import Deadline
from streams.domain.claim import Claim
from streams.domain.depth import Claimed
from streams.domain.head import heads_of, unknown_heads
from streams.errors import Conflict, Refused, Unavailable
from streams.ledger.ledger import Ledger
from streams.ledger.range_progress import PROGRESS_KINDS
from streams.ledger.view import LedgerView
from streams.lookup import read_to
from streams.ports import GroupOffsets, Kafka, Producer, Topic
from streams.settings.settings import Settings
from streams.telemetry.metrics import HEADS_RESTORED

_log = logging.getLogger(__name__)
_POLL_S = 0.005
_OF_CLAIMS = tuple(f"{kind}/".encode() for kind in ("head", "claim", *PROGRESS_KINDS))
"""What keys of the ledger begin with that tell of claims."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a queue holds at an instant: by partition, the head and the end (excluded)."""

    topic: Topic
    heads: dict[int, int]
    ends: dict[int, int]
    committed: dict[int, int]
    """The group's own offsets, from which the heads were taken."""

    @property
    def ranges(self) -> dict[int, tuple[int, int]]:
        """The partitions that hold something."""
        return {p: (head, self.ends[p]) for p, head in self.heads.items() if head < self.ends[p]}


@dataclass(frozen=True, slots=True)
class Rewound:
    """The partitions whose committed offset lies below a claim."""

    heads: dict[int, int]
    """The offsets that they should have."""
    committed: dict[int, int]
    """Those that they have; -1 for none."""


async def read_claimed(kafka: Kafka, settings: Settings) -> Claimed:
    """What the ledger knows of queues now: for processes that do not follow it.

    Raises:
        Refused: Kafka does not permit to read the ledger.
        Unavailable: it can't be read.
    """
    view = LedgerView()
    ledger = await kafka.topic(settings.ledger_topic)
    if ledger is not None:
        partitions = range(ledger.partitions)
        ends = await kafka.stable_ends(ledger.name, partitions)
        tail = await kafka.tail(ledger.name, await kafka.log_starts(ledger.name, partitions))
        try:
            async for record in read_to(tail, ends):
                if (record.key or b"").startswith(_OF_CLAIMS):
                    view.apply(record)
        finally:
            await tail.close()
    return view.all_claimed()


class Heads:
    """Reads them, and puts them back where they were rewound."""

    def __init__(self, kafka: Kafka, ledger: Ledger, settings: Settings) -> None:
        self._kafka = kafka
        self._ledger = ledger
        self._settings = settings

    async def snapshot(self, topic: Topic) -> Snapshot:
        """Heads and ends. The ends come before the group's offsets: those are then never below what was dispatched.

        And what was claimed before comes before the ends, or a claimer that stands still would call that lost:
        1. This claimer reads the ends, and stands still. Another claimer takes the queue's id meanwhile.
        2. That one claims what this one saw, and again what has come since. Once this one goes on, its view follows.
        3. The head in that view lies beyond the ends that this claimer has read, although nothing is missing.
        """
        partitions, group = range(topic.partitions), self._settings.group_of(topic.name)
        claimed = self._ledger.heads(topic.name, topic.id)
        ends, starts, stamped = await asyncio.gather(
            self._kafka.stable_ends(topic.name, partitions, latest_of=topic.id),
            self._kafka.log_starts(topic.name, partitions),
            self._kafka.stamped(group, topic.name, partitions),
        )
        await self._require_known(topic, stamped, ends)
        committed = await self._stable_offsets(group, topic.name, topic.partitions)
        for partition, head in claimed.items():
            if partition in ends and ends[partition] < head:
                await self.hold_to(topic)  # else it is the end of another topic of the name
                raise Refused(
                    f"truncated: partition {partition} of topic {topic.name} ends at {ends[partition]}, "
                    f"but {head} was claimed before; messages were lost in Kafka"
                )
        return Snapshot(topic, heads_of(starts, committed, claimed), ends, committed)

    async def _require_known(self, topic: Topic, stamped: Mapping[int, int], ends: Mapping[int, int]) -> None:
        """See that the ledger knows of the claims that have left their stamps in the group's offsets.

        One that was committed a moment ago, it knows behind a barrier. If not then, it is older than that claim; a new
        claim would hide this, and what the forgotten one has taken and not drained would be freed.

        Raises:
            Refused: the ledger is older than a claim of the queue.
        """
        if unknown_heads(stamped, self._ledger.heads(topic.name, topic.id), ends):
            await self._ledger.barrier(topic.name)
        if unknown := unknown_heads(stamped, self._ledger.heads(topic.name, topic.id), ends):
            raise Refused(
                f"more of topic {topic.name} was claimed than the ledger knows, in partitions {unknown}: was an old "
                'backup restored? See docs/exactly-once.md, "A backup that is older"'
            )

    async def hold_to(self, topic: Topic) -> None:
        """The last look before a claim's commit: what it is based on must still be so.

        1. The claimer reads heads and ends (5), and its process stands still: a long pause, a machine that is moved.
        2. Its hold on the group runs out; or there was none, as the group was empty. A dispatcher D joins, sends
           messages and commits them, for as long as the claimer stands still.
        3. The claimer goes on with 6: the offsets of step 5 would become the claim, with all that D has sent since.
        So all is written first, the offsets too, and then looked at again: at the topic here, at the group's offsets by
        the producer (`GroupOffsets.expected`). If it stands still only now, the broker ends the transaction, at its
        time-out at the latest; and what D commits from now on wins over the claim's (7).

        Raises:
            Conflict: the topic is another one: its offsets would be given up as lost later, under the old one's id.
        """
        if await self._kafka.topic(topic.name) != topic:
            raise Conflict(f"claiming {topic.name}: the topic was changed or deleted meanwhile")

    async def rewound(self, claim: Claim) -> Rewound:
        """The group's offsets once nothing is pending, and the heads below which they lie."""
        heads = self._ledger.heads(claim.topic, claim.topic_id)
        for partition, (_, end) in claim.ranges.items():
            heads[partition] = max(heads.get(partition, 0), end)
        if not heads:
            return Rewound({}, {})
        committed = await self._stable_offsets(claim.group, claim.topic, max(heads) + 1)
        lower = {p: head for p, head in heads.items() if committed.get(p, -1) < head}
        return Rewound(lower, {p: committed.get(p, -1) for p in lower})

    async def put_back(self, claim: Claim, rewound: Rewound, producer: Producer) -> None:
        """Put back the heads that lie below a claim.

        Raises:
            Conflict: a dispatcher has committed meanwhile: what it has sent must not look as if it were still there.
        """
        offsets = GroupOffsets(claim.group, claim.topic, rewound.heads, rewound.committed, rewound.heads)
        await producer.transact([], offsets)
        HEADS_RESTORED.inc(len(rewound.heads))
        _log.warning("claim.head_restored id=%s topic=%s partitions=%s", claim.id, claim.topic, sorted(rewound.heads))

    async def _stable_offsets(self, group: str, topic: str, partitions: int) -> dict[int, int]:
        """The group's offsets once no transaction that commits any is pending.

        Raises:
            Unavailable: one is pending beyond the bound.
        """
        deadline = Deadline(self._settings.confirm_ms / 1000)
        while True:
            try:
                return await self._kafka.committed(group, topic, range(partitions))
            except Unavailable:
                if deadline.is_over:
                    raise
            await asyncio.sleep(_POLL_S)
