"""Progress lies in partitions of its own: it comes before its claim or long after, and once removed it may be ahead."""

from hypothesis import given
from hypothesis import strategies as st

from streams.domain.claim import Claim, Progress
from streams.domain.topic import topic_of
from streams.ledger.keys import claim_key, earlier_progress_key, progress_key
from streams.ledger.view import LedgerView
from tests.engine.checker import Checker
from tests.engine.profile import PROPERTY
from tests.engine.test_counts import Said, a_claim
from tests.engine.world import XFER_QUEUE, World
from tests.fakes.clock import timeless

TOPIC = topic_of(XFER_QUEUE)
_KEY = progress_key(TOPIC, 0, "c")
_CLAIM = a_claim(TOPIC, {0: (10, 20)})


def done(claim: Claim, *, offset: int = 20) -> Progress:
    return Progress(
        topic_id="t", claimed_at=claim.claimed_at, offset=offset, restored=10, done=True, at="2026-11-20T10:00:00Z"
    )


def view_of(*said: tuple[str, bytes | None]) -> LedgerView:
    view = LedgerView()
    for key, value in said:
        view.apply(Said(key.encode(), value))
    return view


def test_progress_that_comes_before_its_claim() -> None:
    drained: list[str] = []
    view = LedgerView()
    view.on_drained = drained.append
    view.apply(Said(_KEY.encode(), done(_CLAIM).to_bytes()))
    assert drained == []
    view.apply(Said(claim_key(TOPIC, "c").encode(), _CLAIM.to_bytes()))
    assert drained == ["c"]
    assert view.is_finished(_CLAIM)
    assert view.left() == []


def test_what_an_earlier_version_has_drained_is_drained() -> None:
    earlier = done(_CLAIM).model_copy(update={"claimed_at": None})
    said = (earlier_progress_key(TOPIC, 0, "c"), earlier.to_bytes())
    view = view_of(said, (claim_key(TOPIC, "c"), _CLAIM.to_bytes()))
    assert view.is_finished(_CLAIM)
    assert view.has_earlier_progress(TOPIC, 0, "c")


def test_what_an_earlier_version_has_left_behind_is_no_progress_of_a_later_claim_of_its_id() -> None:
    earlier = Progress(topic_id="t", offset=20, restored=10, done=True, at="2026-11-20T10:00:00Z")
    for later in (a_claim(TOPIC, {0: (100, 200)}), _CLAIM.model_copy(update={"topic_id": "another"})):
        view = view_of(
            (earlier_progress_key(TOPIC, 0, "c"), earlier.to_bytes()), (claim_key(TOPIC, "c"), later.to_bytes())
        )
        assert view.left() == [(TOPIC, 0)]


def test_what_was_gone_on_with_counts_wherever_it_comes() -> None:
    """An earlier version came to 15; this one has done the rest. The two lie in different partitions."""
    earlier = Progress(topic_id="t", offset=15, restored=5, at="2026-11-20T09:30:00Z")
    said = [
        (claim_key(TOPIC, "c"), _CLAIM.to_bytes()),
        (earlier_progress_key(TOPIC, 0, "c"), earlier.to_bytes()),
        (_KEY, done(_CLAIM).to_bytes()),
    ]
    for order in (said, said[::-1], [said[2], said[0], said[1]]):
        view = view_of(*order)
        assert view.is_finished(_CLAIM)
        assert view._counts["c"].restored == 10


def test_a_later_claim_of_an_id_that_was_forgotten_is_not_taken_for_drained() -> None:
    later = _CLAIM.model_copy(update={"claimed_at": "2027-01-01T00:00:00Z"})
    view = view_of((_KEY, done(_CLAIM).to_bytes()), (claim_key(TOPIC, "c"), later.to_bytes()))
    assert view.left() == [(TOPIC, 0)]
    assert view.progress(TOPIC, 0, "c") is None
    view.apply(Said(_KEY.encode(), None))  # as it was forgotten before
    assert view.left() == [(TOPIC, 0)]
    assert not view._counts["c"].are_done


@PROPERTY
@given(st.lists(st.booleans(), min_size=4, max_size=4))
def test_two_partitions_each_read_in_its_own_order(turns: list[bool]) -> None:
    """Of one of them a claim and a later one of the same id, of the other their progress, one after the other."""
    later = _CLAIM.model_copy(update={"claimed_at": "2027-01-01T00:00:00Z"})
    claims = [(claim_key(TOPIC, "c"), claim.to_bytes()) for claim in (_CLAIM, later)]
    steps = [(_KEY, done(claim).to_bytes()) for claim in (_CLAIM, later)]
    said = [(claims or steps if turn else steps or claims).pop(0) for turn in turns]
    view = view_of(*said)
    assert view.is_finished(later)
    assert view._counts["c"].restored == 10


@timeless
async def test_what_only_seems_to_be_left_is_not_drained_again() -> None:
    """1. A command is forgotten: its claim is removed, then its progress. 2. A worker, in the middle of an attempt at
    another claim of that partition, reads the second first."""
    async with World(partitions=1) as world:
        world.inject(5)
        ledger = world.worker().engine.ledger
        world.cancel("old")
        await world.ended("old")
        (claim,) = ledger.claims(TOPIC)
        world.inject(5)
        barrier, seemed_left = ledger.drain_barrier, False

        async def meanwhile(topic: str, partition: int) -> None:
            nonlocal seemed_left
            await barrier(topic, partition)
            ledger._outcomes.pop("old", None)  # an earlier version has ended it, as a status
            if seemed_left:
                ledger.apply(Said(claim_key(TOPIC, "old").encode(), None))
            else:
                ledger.apply(Said(progress_key(TOPIC, 0, "old").encode(), None))
                ledger.on_left = lambda *_: None  # the claim is about to be gone
                seemed_left = claim in ledger.unfinished(TOPIC, 0)

        ledger.drain_barrier = meanwhile  # type: ignore[method-assign]
        world.cancel("new")
        await world.ended("new")
        assert seemed_left
        checker = Checker(world)
        checker.each_message_is_in_one_place()
        checker.one_log_record_per_move()
