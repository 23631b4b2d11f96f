"""What the loops in Python share."""

from streams.domain.claim import Claim
from streams.records import Header
from tests.bench.contenders.contender import REASON, Source

LOG_HEADERS: list[Header] = [("type", b"AdminRebind")]


def claim_of(source: Source) -> Claim:
    """The claim as xferq's transform wants it."""
    return Claim(
        id="bench",
        kind="xfer.cancel",
        topic=source.topic,
        topic_id="",
        queue=source.queue,
        xfer_queue=source.queue,
        reason=REASON,
        group="bench",
        ranges=source.ranges,
        claimed_at="",
    )
