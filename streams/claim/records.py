"""What the ledger remembers of a claim: the records that its transaction writes."""

from collections.abc import Mapping

from streams.claim.request import ClaimRequest
from streams.domain.claim import Claim, Head, StallReason
from streams.domain.counts import counts_of
from streams.domain.selection import Passed
from streams.domain.status import Status
from streams.domain.trace import TRACEPARENT, TRACESTATE
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


def new_claim(
    request: ClaimRequest,
    topic_id: str,
    group: str,
    ranges: dict[int, tuple[int, int]],
    claimed_at: str,
    trace: Mapping[str, str],
) -> Claim:
    """The claim of these ranges for the request, with the trace context in which it was made."""
    return Claim(
        id=request.id,
        kind=request.kind,
        topic=request.topic,
        topic_id=topic_id,
        queue=request.queue,
        xfer_queue=request.xfer_queue,
        reason=request.reason,
        group=group,
        ranges=ranges,
        claimed_at=claimed_at,
        traceparent=trace.get(TRACEPARENT),
        tracestate=trace.get(TRACESTATE),
    )


def claimed_status(claim: Claim, status: Status) -> Status:
    """The cancel's status with its claim: an end, where there was nothing to claim."""
    status = status.model_copy(update={"state": "claimed", "claimed_at": claim.claimed_at, "detail": None})
    return status.with_counts(counts_of([claim]))


def records_of(claim: Claim, status: Status | None) -> list[tuple[str, bytes | None]]:
    """Keys and values: the claim, its heads, that step 7 is to come, and the command's `status` with it, if it has one.

    Nothing was claimed of an empty queue: its cancel ends with that. A transfer, which has no status here, remembers
    that the queue was passed by.
    """
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
