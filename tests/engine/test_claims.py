"""Claims against others who are at work: claimers, dispatchers, operators, those who inject."""

import asyncio
import itertools
import random
from datetime import timedelta

import pytest

from streams.commands.command_record import CommandRecord
from streams.domain.topic import topic_of
from tests.engine.checker import Checker
from tests.engine.mistaken import Mistaken
from tests.engine.world import XFER_QUEUE, World
from tests.fakes.clock import timeless
from tests.fakes.faults import Faults
from tests.fakes.worker import FakeWorker
from tests.support.draining import drain

TOPIC = topic_of(XFER_QUEUE)


def late_markers(world: World, seed: int, longest_s: float = 0.5) -> None:
    """Markers come some time after the answer, each in its own time."""
    chance = random.Random(seed)
    world.broker.marker_delay = lambda: chance.choice([0.0, chance.uniform(0, longest_s)])


@pytest.mark.parametrize("seed", range(12))
@timeless
async def test_two_engines_and_two_cancels_of_one_queue(seed: int) -> None:
    """Each knows of one command only, so neither waits for the other; and both get all the tasks."""
    async with World(guard_ms=60_000) as world:
        late_markers(world, seed)
        world.inject(12)
        dispatcher = world.dispatcher()
        dispatcher.join()
        dispatcher.poll(1)
        first = world.worker(Faults(seed))
        second = world.worker(Faults(seed + 100))
        world.cancel("c1", partition=0)
        world.cancel("c2", partition=1)
        # The first one has lost its partitions to the second one, and has not heard of it.
        for worker in (first, second):
            await world.until(lambda worker=worker: worker.engine.ledger.is_open)  # type: ignore[misc]
        topic = world.broker.topics[world.settings.commands_topic]
        (record,) = topic.logs[0].records(0, 1)
        doubled = CommandRecord(topic.name, 0, 0, record.timestamp, record.value)
        assert await first.engine.on_command(doubled, lambda: True)
        tasks = [asyncio.create_task(_drain(first, partition)) for partition in (0, 1)]
        await world.ended("c1", "c2")
        await asyncio.gather(*tasks)
        await asyncio.sleep(20)
        one, two = await world.status("c1"), await world.status("c2")
        assert one is not None
        assert two is not None
        assert (one.total or 0) + (two.total or 0) == 12
        Checker(world).check()
        Checker(world).heads_hold()


async def _drain(worker: FakeWorker, partition: int) -> None:
    await drain(worker.engine.drainer, TOPIC, partition)


@pytest.mark.parametrize("moment", ["hold", "committed:queue", "transact:xferq.claim", ".written", ".committed"])
@pytest.mark.parametrize("learns", ["at once", "late"])
@timeless
async def test_a_dispatcher_that_joins_while_the_queue_is_claimed(moment: str, learns: str) -> None:
    """Nobody was there to be held up when the claim looked. A plain commit behind the pending one wins over
    it when the marker comes: the claim looks again, and the head is where it should be."""
    async with World(partitions=1, guard_ms=600_000) as world:
        world.inject(10)
        dispatcher = world.dispatcher()
        faults = Faults()
        worker = world.worker(faults, drains=False)
        world.broker.marker_delay = lambda: 0.3
        world.cancel()
        already = len(faults.passed)
        await _passed(world, faults, moment, already)
        dispatcher.join()
        dispatcher.poll(2)
        if learns == "at once":
            dispatcher.commit()
        else:
            asyncio.get_running_loop().call_later(0.2, dispatcher.commit)
        await world.until(lambda: bool(worker.acked))
        # Neither is it drained by now, nor has the guard looked: the claim itself holds.
        Checker(world).heads_hold()
        newcomer = world.dispatcher()
        newcomer.join()
        newcomer.poll(100)
        Checker(world).check()
        worker.begin_drains()
        await world.ended("c1")
        await asyncio.sleep(12)
        newcomer.leave()
        if not dispatcher.is_member:
            dispatcher.join()
        dispatcher.poll(100)
        Checker(world).check()
        Checker(world).heads_hold()
        new = world.inject(3)
        assert [got.key for got in dispatcher.poll(100)] == [id.encode() for id in new]


class _Asleep(Faults):
    """Stands still, for a while, where a point is passed for the n-th time from now on."""

    def stand_still(self, point: str, times: int, for_s: float) -> None:
        self.asleep = asyncio.Event()
        self._still = [point, times, for_s]

    async def point(self, name: str, *, counted: bool = True) -> None:
        await super().point(name, counted=counted)
        still = getattr(self, "_still", None)
        if still and still[0] in name:
            still[1] -= 1
            if still[1] == 0:
                self.asleep.set()
                await asyncio.sleep(still[2])


@pytest.mark.parametrize("seat", [True, False], ids=["a dispatcher was evicted", "nobody was there"])
@timeless
async def test_a_claimer_that_stands_still_between_its_look_and_its_commit(seat: bool) -> None:
    """Longer than its seat in the group lasts. What dispatchers have sent and committed meanwhile, as members in
    good standing, is not claimed: nobody has evicted them, so they do nothing wrong."""
    async with World(partitions=1, guard_ms=600_000, space_s=10_000.0) as world:
        world.inject(10)
        dispatcher = world.dispatcher()
        if seat:
            dispatcher.join()
            dispatcher.poll(1)
        faults = _Asleep()
        worker = world.worker(faults)
        await world.until(lambda: worker.engine.ledger.is_open)
        faults.stand_still("transact:xferq.claim", 1, 60.0)
        world.cancel()
        async with asyncio.timeout(100):
            await faults.asleep.wait()
        group = world.broker.group(world.settings.group_of(TOPIC))
        assert (group.holder is not None) == seat
        if group.holder is not None:  # a process that stands still sends no heartbeats: its session ends
            group.leave([group.holder])
        dispatcher.heartbeat()  # an evicted one learns of it
        dispatcher.join()
        sent = dispatcher.poll(4)
        assert len(sent) == 4
        assert dispatcher.commit()
        status = await world.ended("c1")
        assert status.total == 10 - (5 if seat else 4)  # an evicted one commits what it had polled, as consumers do
        Checker(world).check()


@timeless
async def test_a_head_that_is_put_back_does_not_show_again_what_was_sent_meanwhile() -> None:
    """1. Offsets are rewound; the guard sees it, and stands still before it puts them right.
    2. A dispatcher joins, and sends and commits all there is, also what came after the claim.
    3. The guard goes on: the head of the claim would lie below that, and the next claim take it."""
    async with World(partitions=1, space_s=10_000.0) as world:
        world.inject(10)
        faults = _Asleep()
        worker = world.worker(faults, drains=False)
        world.cancel("c1")
        await world.until(lambda: bool(worker.acked))
        faults.stand_still("transact:xferq.claim", 1, 30.0)
        world.broker.group(world.settings.group_of(TOPIC)).set_offset(TOPIC, 0, 9)
        async with asyncio.timeout(100):
            await faults.asleep.wait()
        world.inject(2)
        dispatcher = world.dispatcher()
        dispatcher.join()
        assert len(dispatcher.poll(100)) == 3
        assert dispatcher.commit()
        await asyncio.sleep(40)
        world.cancel("c2")
        assert (await world.ended("c2")).total == 0


@timeless
async def test_who_joins_before_a_head_that_is_put_back_is_to_be_seen() -> None:
    """1. A dispatcher joins after the eviction, gets the old head, commits behind the claim's pending offset, leaves.
    2. The marker comes, the head lies below the claim; the claimer puts it back.
    3. Before that marker comes another one joins: it is told the old head."""
    async with World(partitions=1, guard_ms=600_000) as world:
        world.inject(10)
        faults = Faults()
        worker = world.worker(faults, drains=False)
        world.broker.marker_delay = lambda: 0.3
        world.cancel()
        already = len(faults.passed)
        await _passed(world, faults, "transact:xferq.claim", already)
        first, second = world.dispatcher(), world.dispatcher()
        first.join()
        first.poll(2)
        await _passed(world, faults, ".written", already)
        assert first.commit()
        first.leave()
        await _passed(world, faults, ".committed", already)
        already = len(faults.passed)
        await _passed(world, faults, ".committed", already)
        await asyncio.sleep(0.1)
        second.join()
        await world.until(lambda: bool(worker.acked))
        second.heartbeat()
        assert second.poll(100) == []
        Checker(world).heads_hold()


async def _passed(world: World, faults: Faults, point: str, after: int) -> None:
    async with asyncio.timeout(100):
        while not any(point in name for name in faults.passed[after:]):
            await asyncio.sleep(0.0005)


@pytest.mark.parametrize("count", [1, 3])
@timeless
async def test_dispatchers_at_work(count: int) -> None:
    """What one had polled comes twice at most; nothing that was claimed is dispatched by who has learned."""
    async with World(partitions=3) as world:
        late_markers(world, count)
        world.inject(30)
        dispatchers = [world.dispatcher() for _ in range(count)]
        for dispatcher in dispatchers:
            dispatcher.join()

        async def work() -> None:
            for number in itertools.count():
                dispatcher = dispatchers[number % count]
                dispatcher.poll(1)
                if number % 5 == 0:
                    dispatcher.commit()
                if not dispatcher.is_member:
                    dispatcher.join()
                await asyncio.sleep(0.05)

        working = asyncio.create_task(work())
        world.worker()
        await asyncio.sleep(0.2)
        world.cancel()
        status = await world.ended("c1")
        assert status.total
        await asyncio.sleep(20)
        new = world.inject(6)
        await asyncio.sleep(20)
        working.cancel()
        got = {(got.key or b"").decode() for dispatcher in dispatchers for got in dispatcher.got}
        assert got.issuperset(new)
        Checker(world).check()
        Checker(world).heads_hold()


@timeless
async def test_what_is_in_an_open_transaction_is_not_considered() -> None:
    async with World(partitions=1) as world:
        ids = world.inject(4)
        late = world.inject_open(3)
        after = world.inject(2)  # behind it: beyond the last stable offset as long as it is open
        world.worker()
        world.cancel("c1")
        status = await world.ended("c1")
        assert status.total == len(ids)
        late.decide(commit=True)
        world.cancel("c2")
        status = await world.ended("c2")
        assert status.total == len(late.ids) + len(after)
        Checker(world).check()


@timeless
async def test_what_was_committed_a_moment_ago_is_taken() -> None:
    """Its marker is not there yet when the claim begins."""
    async with World(partitions=1) as world:
        world.inject(4)
        late = world.inject_open(3)
        world.worker()
        world.cancel("c1")
        world.broker.marker_delay = lambda: 0.3
        late.decide(commit=True)
        assert (await world.ended("c1")).total == 7
        Checker(world).check()


@timeless
async def test_the_guard_goes_by_the_last_claim_and_by_no_clock() -> None:
    """An earlier claim, of a topic that is gone, was made by a worker whose clock is months ahead."""
    async with World(space_s=10_000.0) as world:
        world.inject(4)
        topic = world.queue()
        async with Mistaken(world, timedelta(days=60)) as mistaken:
            await mistaken.cancels()
        world.broker.delete(topic)
        world.inject(12)
        world.worker(drains=False)
        world.cancel("c2")
        await world.until(lambda: world.ledger.claim(topic, "c2") is not None)
        await asyncio.sleep(8)
        group = world.broker.group(world.settings.group_of(topic))
        for partition in (0, 1):
            group.set_offset(topic, partition, 1)
        await asyncio.sleep(3)
        Checker(world).heads_hold()


@pytest.mark.parametrize("how", ["rewound", "expired"])
@pytest.mark.parametrize("drained", [True, False])
@timeless
async def test_the_guard_puts_offsets_right(how: str, drained: bool) -> None:
    async with World(space_s=10_000.0) as world:
        world.inject(12)
        topic = world.queue()
        faults = Faults()
        world.worker(faults, drains=drained)
        if drained:
            faults.on("delete_before", "unavailable", times=10_000)  # else nothing is left to be brought back
        world.cancel()
        if drained:
            await world.ended("c1")
        else:
            await world.until(lambda: bool(world.ledger.claims(topic)))
        await asyncio.sleep(8)
        group = world.broker.group(world.settings.group_of(topic))
        for partition in (0, 1):
            group.set_offset(topic, partition, 1 if how == "rewound" else None)
        await asyncio.sleep(3)
        Checker(world).heads_hold()
        # A dispatcher that begins now gets nothing of it; and the next claim finds nothing either.
        dispatcher = world.dispatcher()
        dispatcher.join()
        assert dispatcher.poll(100) == []
        for partition in (0, 1):
            group.set_offset(topic, partition, 0 if how == "rewound" else None)
        world.cancel("c2")
        assert (await world.ended("c2")).total == 0
        Checker(world).ranges_don_t_overlap()


@timeless
async def test_a_dispatcher_commits_long_after_what_it_had_polled_is_gone() -> None:
    async with World(space_s=10_000.0) as world:
        world.inject(12)
        topic = world.queue()
        world.worker()
        world.cancel()
        await world.ended("c1")
        await asyncio.sleep(30)
        world.broker.group(world.settings.group_of(topic)).set_offset(topic, 0, 1)
        await asyncio.sleep(15)
        Checker(world).heads_hold()


@timeless
async def test_a_topic_that_was_deleted_and_created_again_starts_afresh() -> None:
    async with World() as world:
        world.inject(12)
        worker = world.worker(drains=False)
        world.cancel("c1")
        await world.until(lambda: bool(world.ledger.claims(TOPIC)))
        checker = Checker(world)
        checker.excuse(world.broker.topics[TOPIC])
        world.broker.delete(TOPIC)
        world.inject(5)
        worker.begin_drains()
        status = await world.ended("c1")
        assert (status.state, status.restored) == ("done", 0)
        assert "lost" in (status.detail or "")
        world.cancel("c2")
        assert (await world.ended("c2")).total == 5
        checker.check()
        checker.heads_hold()


@pytest.mark.parametrize("again", [True, False])
@timeless
async def test_a_topic_that_is_deleted_while_it_is_drained(again: bool) -> None:
    """Nothing of the new topic is taken for what was claimed of the old one; and the drain ends."""
    async with World(partitions=1) as world:
        world.inject(30)
        faults = Faults()
        world.worker(faults)
        world.cancel("c1")
        await _passed(world, faults, "xferq.drain.queue.http-3a-2f-2fbogus.example-2f.xfer.kumomta.internal.0.comm", 0)
        checker = Checker(world)
        checker.excuse(world.broker.topics[TOPIC])
        world.broker.delete(TOPIC)
        new = world.inject(40) if again else []
        status = await world.ended("c1", within_s=2_000)
        assert status.state == "done"
        assert 0 < status.restored < 30
        places = checker.places()
        assert {tuple(places[id]) for id in new} <= {(TOPIC,)}
        checker.check()


@timeless
async def test_a_topic_that_lost_its_tail_is_refused() -> None:
    async with World(partitions=1) as world:
        world.inject(8)
        world.worker()
        world.cancel("c1")
        await world.ended("c1")
        log = world.broker.topics[TOPIC].logs[0]
        log.start = 0
        del log._entries[3:]
        world.cancel("c2")
        status = await world.ended("c2")
        assert status.state == "refused"
        assert (status.detail or "").startswith("truncated: ")


@timeless
async def test_work_that_is_revoked_is_left_to_the_next_owner() -> None:
    async with World(partitions=1) as world:
        world.inject(30)
        faults = Faults()
        first = world.worker(faults)
        world.cancel()
        await _passed(world, faults, "transact:xferq.drain", 0)
        world.worker()  # takes all partitions
        await world.ended("c1")
        assert not first.engine.drains._at_work
        assert list(world.workers[1].unacknowledged()) == []
        Checker(world).check()


@timeless
async def test_a_worker_that_is_told_to_stop_ends_at_an_edge() -> None:
    async with World(partitions=1) as world:
        world.inject(60)
        faults = Faults()
        first = world.worker(faults)
        world.cancel()
        await _passed(world, faults, "transact:xferq.drain", 0)
        began = asyncio.get_running_loop().time()
        await first.stop()
        assert asyncio.get_running_loop().time() - began < 5
        status = await world.status("c1")
        assert status is not None
        assert status.restored < 60
        Checker(world).check()
        world.worker()
        assert (await world.ended("c1")).restored == 60
        Checker(world).check()


@timeless
async def test_a_group_of_the_new_protocol_is_emptied_without_a_holder() -> None:
    async with World() as world:
        world.inject(10)
        world.broker.group(world.settings.group_of(TOPIC)).is_classic = False
        dispatcher = world.dispatcher()
        dispatcher.join()
        dispatcher.poll(1)
        world.worker()
        world.cancel()
        await world.ended("c1")
        assert not dispatcher.commit()
        dispatcher.join()
        assert dispatcher.poll(100) == []
        await asyncio.sleep(10)
        Checker(world).check()
        Checker(world).heads_hold()
