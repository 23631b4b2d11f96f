"""What the ledger remembers of a claim: the records that its transaction writes."""

from streams.domain.claim import Claim, Head, StallReason
from streams.domain.counts import counts_of
from streams.domain.selection import Passed
from streams.domain.status import Status
from streams.ledger.keys import (
    HEADS,
    UNCONFIRMED,
    claim_key,
    command_key,
    head_key,
    outcome_key,
    passed_key,
    waiting_key,
)


def records_of(claim: Claim, status: Status | None) -> list[tuple[str, bytes | None]]:
    """Keys and values: the claim, its heads, that step 7 is to come, and the command's `status`, if that is given.

    Nothing was claimed of an empty queue: its cancel ends with that. A transfer, which has no status here, remembers
    that the queue was passed by.
    """
    if status is not None:
        status = status.model_copy(update={"state": "claimed", "claimed_at": claim.claimed_at, "detail": None})
        status = status.with_counts(counts_of([claim]))
    if not claim.ranges and status is not None:
        return [(outcome_key(claim.id), status.to_bytes())]
    if not claim.ranges:
        return [(passed_key(claim.topic, claim.id), Passed().to_bytes())]
    records: list[tuple[str, bytes | None]] = [(claim_key(claim.topic, claim.id), claim.to_bytes())]
    for partition, (_, end) in claim.ranges.items():
        head = Head(topic_id=claim.topic_id, offset=end, group=claim.group, claimed_at=claim.claimed_at)
        records.append((head_key(claim.topic, partition), head.to_bytes()))
    records.append((waiting_key(claim.topic, HEADS, claim.id), StallReason(why=UNCONFIRMED).to_bytes()))
    if status is not None:
        records.append((command_key(claim.id), status.to_bytes()))
    return records
