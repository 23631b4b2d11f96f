"""A transfer takes what its queues held at its instant, however often it is tried, and by whomever."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.commands.admission import UNASKED
from streams.domain.selection import Passed, Selection, chunks_of
from streams.domain.topic import topic_of
from streams.errors import Refused
from tests.engine.checker import Checker
from tests.engine.profile import PROPERTY
from tests.engine.world import QUEUES, XFER_QUEUE, World
from tests.fakes.clock import skip, timeless
from tests.fakes.faults import Faults


@given(st.lists(st.text(min_size=1, max_size=1_000).filter(lambda name: len(name.encode(errors="replace")) <= 1_000)))
@PROPERTY
def test_chunks_hold_all_names_in_their_order(names: list[str]) -> None:
    names = [name.encode(errors="replace").decode() for name in names]
    names = names * 40  # so that one chunk does not do
    chunks = chunks_of(names)
    assert [name for chunk in chunks for name in chunk.queues] == names
    assert all(len(chunk.to_bytes()) < 900_000 for chunk in chunks)
    assert {chunk.of for chunk in chunks} == {len(chunks)}


@given(st.permutations([("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)]), st.data())
@PROPERTY
def test_the_selection_that_is_complete_first_stays_the_transfers(
    order: list[tuple[str, int]], data: st.DataObject
) -> None:
    texts = {"a": ["x", "y"], "b": ["x", "y", "z"]}
    values = {
        (nonce, number): chunks_of([text])[0].model_copy(update={"of": len(names)})
        for nonce, names in texts.items()
        for number, text in enumerate(names)
    }
    selection, first = Selection(), None
    seen: dict[str, int] = {"a": 0, "b": 0}
    for where in order:
        selection.put(*where, values[where])
        seen[where[0]] += 1
        if first is None and seen[where[0]] == len(texts[where[0]]):
            first = where[0]
        assert selection.queues == (None if first is None else texts[first])
        if data.draw(st.booleans()):
            selection.put(*where, values[where])  # compaction may show a record again, never in another order
    for where in order:
        selection.put(*where, None)
    assert selection.is_empty
    assert selection.queues is None


@timeless
async def test_one_that_is_tried_again_takes_no_more_than_its_instant() -> None:
    async with World() as world:
        world.inject(6, QUEUES[0])
        world.queue(QUEUES[1])  # empty
        world.inject(6, QUEUES[2])
        faults = Faults()
        faults.on(f"producer:xferq.claim.{topic_of(QUEUES[2])}", "unavailable", times=40)
        first = world.worker(faults)
        world.transfer("s1")
        # What is claimed is moved at once, and not once all is claimed.
        await world.until(lambda: (status := world.ledger.status("s1")) is not None and status.restored == 6)
        later = [*world.inject(3, QUEUES[1]), *world.inject(3, QUEUES[0]), *world.inject(3, "new.example")]
        first.kill()  # and whoever goes on knows all that from the ledger
        world.worker()
        status = await world.ended("s1")
        assert (status.state, status.queues, status.total) == ("done", 2, 12)
        places = Checker(world).places()
        assert {places[id][0] for id in later} == {topic_of(name) for name in (QUEUES[0], QUEUES[1], "new.example")}
        await world.until(lambda: world.ledger.selection("s1").queues is None, 1_400)  # of no use any more
        Checker(world).check()


@pytest.mark.parametrize("queue", QUEUES[:2])
@timeless
async def test_a_queue_that_is_refused_holds_up_no_other_and_is_said(queue: str) -> None:
    async with World() as world:
        for name in QUEUES:
            world.inject(3, name)
        faults = Faults()
        faults.on(f"producer:xferq.claim.{topic_of(queue)}", Refused("by script"), times=1)
        world.worker(faults)
        world.transfer("s1", queue_names=[*QUEUES, "unknown.example"])
        status = await world.ended("s1")
        assert (status.queues, status.total) == (2, 6)
        assert status.detail is not None
        assert status.detail.startswith(
            "1 queues could not be claimed; the first: by script; queues that do not exist: "
        )
        passed = world.ledger.selection("s1").passed
        assert passed == {topic_of(queue): Passed(why="by script"), topic_of("unknown.example"): Passed(missing=True)}


NAMES = ("mytenant@example.com", "mytenant@mail.example", "summer:acme@letters.example", "office@example.net")
NOTHING = [
    (
        {"tenant": "mytennant"},
        "no queue has tenant mytennant; the nearest: mytenant@example.com, mytenant@mail.example",
    ),
    ({"domain": "letters.exmaple"}, "no queue has domain letters.exmaple; the nearest: summer:acme@letters.example, "),
    ({"campaign": "sumer", "tenant": "acme"}, "no queue has campaign sumer and tenant acme; the nearest: summer:acme@"),
    ({"routing_domain": "relay"}, "no queue has routing_domain relay; the nearest: "),
    (
        {"queue_names": ["mytennant@example.com"]},
        "queues that do not exist: mytennant@example.com; the nearest: mytenant@",
    ),
    ({"queue_names": [f"q{n}" for n in range(9)]}, "queues that do not exist: q0, q1, q2 and 6 more; the nearest: "),
    ({"queue_names": [XFER_QUEUE]}, f"it takes nothing from {XFER_QUEUE}, which is where it goes"),
    ({"tenant": "t" * 1024}, f"no queue has tenant {'t' * 200}; the nearest: "),
]


@pytest.mark.parametrize(("criteria", "detail"), NOTHING, ids=str)
@timeless
async def test_one_that_matches_nothing_says_what_was_meant_and_makes_no_topic(
    criteria: dict[str, Any], detail: str
) -> None:
    async with World() as world:
        for name in NAMES:
            world.inject(2, name)
        world.worker()
        world.transfer("s1", **criteria)
        status = await world.ended("s1")
        assert (status.state, status.queues, status.total, status.restored) == ("done", 0, 0, 0)
        assert (status.detail or "").startswith(detail)
        assert len(status.detail or "") < 1_500
        assert topic_of(XFER_QUEUE) not in world.broker.topics
        Checker(world).check()


@timeless
async def test_where_there_is_no_queue_at_all() -> None:
    async with World() as world:
        world.worker()
        world.transfer("s1", everything=True)
        world.transfer("s2", queue_names=["a.example"])
        status = await world.ended("s1", "s2")
        assert status.detail == "queues that do not exist: a.example"
        status = await world.ended("s1")
        assert (status.state, status.queues, status.detail) == ("done", 0, "there is no queue")
        assert not [topic for topic in world.broker.topics if topic.startswith("queue.")]


@timeless
async def test_queues_that_match_and_are_empty_are_not_taken_for_missing_ones() -> None:
    async with World() as world:
        for name in NAMES:
            world.queue(name)
        world.worker()
        world.transfer("s1", tenant="mytenant")
        status = await world.ended("s1")
        assert (status.queues, status.detail) == (0, "no message is in the 2 queues that match")


@timeless
async def test_a_queue_that_does_not_exist_is_named_although_others_are_taken() -> None:
    async with World() as world:
        world.inject(4, NAMES[0])
        faults = Faults()
        faults.on("producer:xferq.command.s1", "unavailable", after=1, times=3)  # and a second look finds the same
        world.worker(faults)
        world.transfer("s1", queue_names=[NAMES[0], "mytenant@exmaple.com"])
        status = await world.ended("s1")
        assert (status.state, status.queues, status.total) == ("done", 1, 4)
        assert status.detail == f"queues that do not exist: mytenant@exmaple.com; the nearest: {NAMES[0]}"


@timeless
async def test_everything_where_it_has_to_be_asked_for() -> None:
    async with World(require_everything=True) as world:
        world.inject(4, NAMES[0])
        world.worker()
        world.transfer("s1")
        status = await world.ended("s1")
        assert (status.state, status.detail, status.queue_name) == ("refused", UNASKED, XFER_QUEUE)
        assert topic_of(XFER_QUEUE) not in world.broker.topics
        world.transfer("s2", tenant="mytenant")
        assert (await world.ended("s2")).total == 4
        world.inject(4, NAMES[0])
        world.transfer("s3", everything=True)
        assert (await world.ended("s3")).total == 4
        Checker(world).check()


@timeless
async def test_one_that_has_begun_goes_on_although_everything_has_to_be_asked_for_by_now() -> None:
    async with World() as world:
        world.inject(6, NAMES[0])
        faults = Faults()
        faults.on(f"producer:xferq.claim.{topic_of(NAMES[0])}", "unavailable", times=1_000)
        first = world.worker(faults)
        world.transfer("s1")
        await world.until(lambda: world.ledger.selection("s1").queues is not None)
        first.kill()
        world.settings = world.settings.model_copy(update={"require_everything": True})
        world.worker()
        assert (await world.ended("s1")).total == 6
        Checker(world).check()


@timeless
async def test_a_claimer_that_stood_still_claims_nothing_that_its_transfer_has_passed_by() -> None:
    """It looked at the queue, and stands still; another one finds it empty, and is through with the transfer."""
    async with World(space_s=1e6) as world:
        world.queue(QUEUES[0])
        slow = Faults()
        world.worker(slow)
        await asyncio.sleep(3)  # by then the maintenance has had its first look
        pause = slow.stand_still(f"stable_ends:{topic_of(QUEUES[0])}")
        world.transfer("s1", queue_names=[QUEUES[0]])
        await pause.begun.wait()
        world.worker()
        assert (await world.ended("s1")).queues == 0
        world.inject(3, QUEUES[0])
        pause.over.set()
        await asyncio.sleep(30)
        status = await world.status("s1")
        assert status is not None
        assert (status.state, status.queues) == ("done", 0)
        assert world.ledger.claims_of("s1") == []
        Checker(world).check()


@timeless
async def test_who_stood_still_before_it_selected_takes_nothing_once_the_transfer_is_counted() -> None:
    """What was selected is not remembered any more by then; it must not select anew."""
    async with World(space_s=1e6) as world:
        world.inject(6, QUEUES[0])
        slow = Faults()
        world.worker(slow)
        await asyncio.sleep(3)  # by then the maintenance has had its first look
        pause = slow.stand_still("topics")
        world.transfer("s1")
        await pause.begun.wait()
        world.worker()
        assert (await world.ended("s1")).queues == 1
        world.inject(6, "new.example")
        pause.over.set()
        await asyncio.sleep(30)
        status = await world.status("s1")
        assert status is not None
        assert (status.state, status.queues, status.total) == ("done", 1, 6)
        Checker(world).check()


@timeless
async def test_queues_that_were_passed_by_are_forgotten_an_hour_after_the_transfer_was_counted() -> None:
    async with World() as world:
        topics = [world.queue(f"q{number}.example", 1) for number in range(12)]
        world.inject(3, QUEUES[0])
        world.worker()
        world.transfer("s1")
        await world.ended("s1")
        assert world.ledger.selection("s1").passed.keys() == set(topics)
        skip(timedelta(hours=2))
        world.transfer("s2", queue_names=["unknown.example"])  # a barrier tells the broker's time
        await asyncio.sleep(1_400)
        assert world.ledger.selection("s1").is_empty
        assert world.ledger.status("s1") is not None
