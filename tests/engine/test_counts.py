"""A command's counts are kept as claims and progress come: the same as what adding all of it up gives."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from streams.domain.claim import Claim, Progress
from streams.domain.counts import Counts
from streams.ledger.keys import claim_key, progress_key
from streams.ledger.view import LedgerView
from tests.engine.profile import PROPERTY

TOPICS = ("queue.a", "queue.b")
PARTITIONS = (0, 1, 2)

ranges = st.dictionaries(st.sampled_from(PARTITIONS), st.just((10, 20)), max_size=3)
steps = st.builds(
    Progress,
    topic_id=st.just("t"),
    claimed_at=st.just("2026-11-20T09:00:00Z"),
    offset=st.integers(10, 20),
    restored=st.integers(0, 5),
    returned=st.integers(0, 5),
    reasons=st.dictionaries(st.sampled_from(["a", "b"]), st.integers(1, 3)),
    done=st.booleans(),
    lost=st.booleans(),
    at=st.sampled_from(["2026-11-20T10:00:00Z", "2026-11-20T10:00:01Z"]),
)
changes = st.tuples(st.just("claim"), st.sampled_from(TOPICS), st.none() | ranges) | st.tuples(
    st.just("step"), st.tuples(st.sampled_from(TOPICS), st.sampled_from(PARTITIONS)), st.none() | steps
)


@dataclass
class Said:
    """A record of the ledger."""

    key: bytes
    value: bytes | None
    partition: int = 0
    offset: int = 0
    timestamp: int = 0


def a_claim(topic: str, of: dict[int, tuple[int, int]]) -> Claim:
    return Claim(
        id="c", kind="xfer.start", topic=topic, topic_id="t", queue=topic, xfer_queue="x", reason="r", group="g",
        ranges=of, claimed_at="2026-11-20T09:00:00Z",
    )  # fmt: skip


@PROPERTY
@given(st.lists(changes, max_size=25))
def test_whatever_comes_in_whatever_order(said: list[tuple[str, object, object]]) -> None:
    view = LedgerView()
    claims: dict[str, Claim] = {}
    progress: dict[tuple[str, int], Progress] = {}
    for kind, where, value in said:
        if kind == "claim":
            topic = str(where)
            claims.pop(topic, None)
            if value is not None:
                claims[topic] = a_claim(topic, value)  # type: ignore[arg-type]
            content = claims[topic].to_bytes() if topic in claims else None
            view.apply(Said(claim_key(topic, "c").encode(), content))
        else:
            topic, partition = where  # type: ignore[misc]
            progress.pop((topic, partition), None)
            if value is not None:
                progress[topic, partition] = value  # type: ignore[assignment]
            content = None if value is None else value.to_bytes()  # type: ignore[attr-defined]
            view.apply(Said(progress_key(topic, partition, "c").encode(), content))
    wanted = Counts()
    for claim in claims.values():
        wanted.add(claim)
        for partition in claim.ranges:
            wanted.replace(claim, partition, None, progress.get((claim.topic, partition)))
    counts = view._counts.get("c", Counts())
    # When it got on last is not taken back: that of a range that is done stays.
    counts.last_at = wanted.last_at = counts.first_claimed_at = wanted.first_claimed_at = None
    assert counts == wanted
    assert counts.queues == len(view.claims_of("c"))
    assert counts.are_done == (bool(claims) and all(view.is_finished(claim) for claim in claims.values()))
