"""A Kafka that is slow or says no for a while: smaller transactions, a word to whoever asks, and on by itself."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from streams.domain.topic import topic_of
from streams.drain.batch_sizer import BatchSizer
from streams.errors import Unavailable
from streams.ledger.keys import HEADS, claim_key
from streams.ledger.ledger import Ledger
from streams.ports import GroupOffsets
from streams.records import Write
from streams.telemetry.health import Health
from tests.engine.checker import Checker
from tests.engine.world import QUEUES, XFER_QUEUE, World
from tests.fakes.clock import timeless
from tests.fakes.faults import Faults
from tests.fakes.kafka import FakeKafka
from tests.fakes.producer import FakeBatch, FakeProducer

TOPIC = topic_of(XFER_QUEUE)


# ---- transactions that don't end in time


class _SlowProducer(FakeProducer):
    """Takes half a second for each record; longer than a transaction's time-out for more than ten."""

    sizes: list[int]

    async def transact(
        self,
        writes: Sequence[Write],
        offsets: GroupOffsets | None = None,
        before_commit: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        moved = sum(len(write.batch.rows) for write in writes if isinstance(write.batch, FakeBatch)) // 2
        limit_s = self._settings.transaction_timeout_ms / 1000
        if "drain" in self._id:
            self.sizes.append(moved)
            await asyncio.sleep(min(moved * 0.5, limit_s))
            if moved * 0.5 > limit_s:
                self._spent = True
                raise Unavailable("writing a transaction: no answer in time")
        await super().transact(writes, offsets, before_commit)


class _SlowKafka(FakeKafka):
    sizes: list[int]

    async def producer(self, transactional_id: str) -> FakeProducer:
        producer = await super().producer(transactional_id)
        producer.__class__ = _SlowProducer
        producer.sizes = self.sizes  # type: ignore[attr-defined]
        return producer


@timeless
async def test_a_transaction_that_could_not_end_in_time_is_tried_again_smaller() -> None:
    async with World(partitions=1, transaction_messages=64) as world:
        world.inject(200)
        worker = world.worker(at_a_time=100)
        kafka = worker.engine.drainer._context.kafka
        kafka.__class__ = _SlowKafka
        assert isinstance(kafka, _SlowKafka)
        sizes = kafka.sizes = []
        world.cancel()
        status = await world.ended("c1")
        assert (status.total, status.restored) == (200, 200)
        # 64, 32, 16 took too long, 8 goes well but slowly, 4 goes well.
        assert sizes[:4] == [64, 32, 16, 8]
        assert max(sizes[4:]) <= 8
        Checker(world).check()


def test_a_batch_size_goes_down_to_one_and_up_again() -> None:
    sizer = BatchSizer(10, 30.0)
    for _ in range(10):
        sizer.failed(30.0)
    assert sizer.size == 1
    sizer.ended(20.0)
    assert sizer.size == 1
    for _ in range(10):
        sizer.ended(0.1)
    assert sizer.size == 10
    assert sizer.is_full
    sizer.ended(16.0)  # committed, but close to the limit
    assert sizer.size == 5
    sizer.ended(10.0)
    assert sizer.size == 5
    sizer.failed(0.1)  # for another reason
    assert sizer.size == 5
    sizer.ended(0.1, was_full=False)
    assert sizer.size == 5
    sizer.ended(16.0, was_full=False)
    assert sizer.size == 2


# ---- timestamps that a destination refuses


@timeless
async def test_one_refused_timestamp_sends_back_that_message_and_no_other() -> None:
    async with World(partitions=1) as world:
        ids = [*world.inject(6)]
        now_ms = world.broker.now_ms()
        log = world.broker.topics[TOPIC].logs[0]
        records = list(log.records(0, log.end))
        log.append([(now_ms, b"new", b"x", records[0].headers)])
        world.injected["new"] = XFER_QUEUE
        home = topic_of(QUEUES[1])  # where the first one goes, and with it the new one
        world.broker.create(home, 1)
        world.broker.topics[home].timestamp_limits = (3_600_000, 3_600_000)
        world.worker()
        world.cancel()
        status = await world.ended("c1")
        assert (status.total, status.restored, status.returned) == (7, 5, 2)
        assert status.returned_reasons == {"timestamp": 2}
        there = world.broker.topics[home].logs[0]
        assert [record.key for record in there.records(0, there.end)] == [b"new"]
        assert len(ids) == 6
        Checker(world).check()


@timeless
async def test_what_the_queue_itself_does_not_take_back_gets_the_nearest_timestamp_that_it_takes() -> None:
    """They lie there for longer than the topic takes in: nothing would ever come out of that partition again."""
    older, newer = 7 * 86_400_000, 3_600_000
    async with World(partitions=1) as world:
        world.inject(1)
        now_ms = world.broker.now_ms()
        topic = world.broker.topics[TOPIC]
        (first,) = topic.logs[0].records(0, 1)
        others = [(now_ms, b"now"), (now_ms + 2 * newer, b"ahead"), (now_ms - 60_000, b"fine")]
        topic.logs[0].append([(timestamp, key, b"x", first.headers) for timestamp, key in others])
        world.injected |= {key.decode(): XFER_QUEUE for _, key in others}
        topic.timestamp_limits = (older, newer)
        home = topic_of(QUEUES[1])  # where all of them go
        world.broker.create(home, 1)
        world.broker.topics[home].timestamp_limits = (older, newer)
        world.worker()
        world.cancel()
        status = await world.ended("c1")
        assert (status.restored, status.returned_reasons) == (2, {"timestamp": 2})
        returned = {record.key: record for record in topic.logs[0].records(4, topic.logs[0].end)}
        assert set(returned) == {first.key, b"ahead"}
        assert first.timestamp < now_ms - older < returned[first.key].timestamp < now_ms - older + 600_000
        assert now_ms + newer - 600_000 < returned[b"ahead"].timestamp < now_ms + newer + 600_000
        Checker(world).check()


# ---- what people see of it


@timeless
async def test_the_status_says_what_a_drain_waits_for_until_it_goes_on() -> None:
    async with World(partitions=1) as world:
        world.inject(9)
        faults = Faults()
        faults.on(f"transact:xferq.drain.{TOPIC}.0", Unavailable("not enough replicas"), times=1000)
        worker = world.worker(faults)
        world.cancel()

        def detail() -> str | None:
            status = world.ledger.status("c1")
            return status.detail if status is not None else None

        await world.until(lambda: detail() is not None)
        status = await world.status("c1")
        assert status is not None
        assert (status.state, status.restored) == ("claimed", 0)
        assert status.detail == f"waiting for {TOPIC}/0: not enough replicas"
        await asyncio.sleep(120)
        assert worker.engine.health.waiting == 1
        problem = worker.engine.health.problem()
        assert problem is not None
        assert f"drain {TOPIC}/0 can't get on" in problem
        assert "not enough replicas" in problem
        faults.clear()
        done = await world.ended("c1")
        assert (done.state, done.restored, done.detail) == ("done", 9, None)
        await world.until(lambda: worker.engine.health.problem() is None)
        assert detail() is None


@timeless
async def test_a_word_about_a_drain_is_out_of_date_once_it_got_further() -> None:
    async with World(partitions=1) as world:
        world.inject(9)
        faults = Faults()
        faults.on(f"transact:xferq.drain.{TOPIC}.0", Unavailable("not enough replicas"), times=8)
        world.worker(faults)
        world.cancel()
        details = []
        while (status := world.ledger.status("c1")) is None or status.state != "done":
            if status is not None:
                details.append((status.restored, status.detail))
            await asyncio.sleep(0.001)
        assert (0, f"waiting for {TOPIC}/0: not enough replicas") in details
        assert len({restored for restored, _ in details}) > 2
        assert {detail for restored, detail in details if restored} == {None}


class _Pending(FakeKafka):
    """The claim's marker does not come: the group's offsets are not known from its commit on."""

    async def committed(
        self, group: str, topic: str, partitions: Iterable[int], *, stable: bool = True
    ) -> dict[int, int]:
        if f"transact:xferq.claim.{topic}.committed" in self.faults.passed:
            raise Unavailable("a transaction is pending")
        return await super().committed(group, topic, partitions, stable=stable)


@timeless
async def test_a_claim_that_is_not_confirmed_is_not_forgotten_over_a_later_one_of_nothing() -> None:
    async with World(partitions=1, confirm_ms=100) as world:
        world.inject(6)
        faults = Faults()
        faults.on("transact:xferq.drain", "unavailable", times=1000)  # or all would be over before
        worker = world.worker(faults)
        worker.engine.claimer._kafka.__class__ = _Pending
        world.cancel()
        await world.until(lambda: HEADS in world.ledger.waiting(TOPIC, "c1"))
        worker.kill()
        claim = world.ledger.claim(TOPIC, "c1")
        assert claim is not None
        later = claim.model_copy(update={"id": "c2", "ranges": {}, "claimed_at": "2999-01-01T00:00:00Z"})
        await world.ledger.record(TOPIC, [(claim_key(TOPIC, "c2"), later.to_bytes())])
        world.worker()
        await world.until(lambda: HEADS not in world.ledger.waiting(TOPIC, "c1"))


@timeless
async def test_a_claim_that_is_not_confirmed_says_so_until_it_is() -> None:
    async with World(partitions=1, confirm_ms=100) as world:
        world.inject(6)
        faults = Faults()
        faults.on("transact:xferq.drain", "unavailable", times=1000)  # or all would be over before
        worker = world.worker(faults)
        worker.engine.claimer._kafka.__class__ = _Pending
        world.cancel()
        await world.until(lambda: bool(worker.engine.claimer.confirmation.failed))
        await world.until(lambda: HEADS in world.ledger.waiting(TOPIC, "c1"))
        status = await world.status("c1")
        assert status is not None
        assert status.state == "claimed"
        assert "does not show the claim: a transaction is pending" in (status.detail or "")
        # Another worker takes over, which knows of it from the ledger only.
        worker.kill()
        world.worker()
        await world.until(lambda: HEADS not in world.ledger.waiting(TOPIC, "c1"))
        done = await world.ended("c1")
        assert (done.restored, done.detail) == (6, None)
        Checker(world).check()


@timeless
async def test_a_command_that_waits_says_for_what_as_it_changes() -> None:
    async with World(partitions=1) as world:
        world.inject(3)
        faults = Faults()
        faults.on(f"producer:xferq.claim.{TOPIC}", Unavailable("no coordinator"), times=3)
        faults.on(f"stable_ends:{TOPIC}", Unavailable("no leader"), times=3)
        world.worker(faults)
        world.cancel()
        details: list[str] = []
        while (status := world.ledger.status("c1")) is None or status.state != "done":
            if status is not None and status.detail is not None and status.detail not in details:
                assert status.state == "waiting"
                details.append(status.detail)
            await asyncio.sleep(0.001)
        assert details == ["no coordinator", "no leader"]
        assert status.detail is None


@timeless
async def test_words_go_with_their_command() -> None:
    async with World(partitions=1, keep_commands_days=1) as world:
        world.inject(6)
        faults = Faults()
        faults.on(f"transact:xferq.drain.{TOPIC}.0", "unavailable", times=8)
        worker = world.worker(faults)
        world.cancel()
        await world.ended("c1")
        assert world.ledger.waiting(TOPIC, "c1")
        engine = worker.engine
        engine.forgetting._settings = engine._settings.model_copy(update={"keep_commands_days": 1e-9})
        await engine.ledger.barrier_all()
        await engine.forgetting.forget_commands()
        await world.ledger.barrier_all()
        assert world.ledger.status("c1") is None
        assert world.ledger.waiting(TOPIC, "c1") == {}


# ---- the ledger's reader


@timeless
async def test_a_reader_of_the_ledger_that_stands_still_is_replaced() -> None:
    async with World() as world:
        worker = world.worker()
        await asyncio.sleep(5)
        ledger = worker.engine.ledger
        await ledger.look()
        tail = ledger._reader._parts[0].tail
        assert tail is not None

        async def nothing(timeout_ms: int) -> Sequence[object]:
            await asyncio.sleep(timeout_ms / 1000)
            return []

        tail.read = nothing  # type: ignore[method-assign,assignment]
        await asyncio.sleep(5)
        await world.ledger.record("x", [("command/x", b'{"id": "x", "state": "done"}')])
        problems = []
        for _ in range(20):
            try:
                await ledger.look()
            except Unavailable as error:
                problems.append(str(error))
            await asyncio.sleep(2)
        assert problems == ["reading the ledger: nothing comes, though there is more"]
        await world.until(lambda: ledger.status("x") is not None, within_s=10)
        assert ledger._reader._parts[0].tail is not tail
        await ledger.look()


# ---- health


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_one_that_waits_among_others_that_go_on_is_no_problem() -> None:
    clock = Clock()
    health = Health(clock)
    health.waits("drain a", "no leader")
    clock.now_s += 60
    assert health.problem() == "drain a can't get on for 60 s: no leader"
    health.goes_on("drain b")
    assert health.problem() is None
    assert (health.waiting, health.waiting_s) == (1, 60)
    clock.now_s += 11
    health.waits("drain a", "still no leader")
    health.waits("drain c", "no leader")
    assert health.problem() == "drain a and 1 more can't get on for 71 s: still no leader"
    health.leaves("drain a")
    assert health.problem() is None
    assert health.waiting == 1


def test_what_all_need_is_a_problem_at_once_or_after_its_grace() -> None:
    clock = Clock()
    health = Health(clock)
    assert health.problem() is None
    health.lacks("group", "no place", grace_s=15)
    assert health.problem() is None
    clock.now_s += 15
    assert health.problem() == "no place"
    health.has("group")
    health.lacks("kafka", "no answer")
    assert health.problem() == "no answer"
    health.has("kafka")
    assert health.problem() is None


class _SlowLedger(Ledger):
    """Takes 20 s to be read to its end, always."""

    async def barrier(self, name: str) -> None:
        await asyncio.sleep(20)
        await super().barrier(name)


@timeless
async def test_a_drain_gets_on_behind_a_ledger_that_is_always_slow() -> None:
    async with World(partitions=2) as world:
        world.inject(20)
        world.worker().engine.ledger.__class__ = _SlowLedger
        world.cancel()
        status = await world.ended("c1")
        assert status.restored == 20
        Checker(world).check()


def test_where_nothing_comes_and_nothing_is_wrong_looks_may_be_rarer() -> None:
    now_s = 0.0
    health = Health(lambda: now_s)
    assert not health.is_idle
    now_s = 61.0
    assert health.is_idle
    for begins, ends in (
        (lambda: health.lacks("kafka", "why"), lambda: health.has("kafka")),
        (lambda: health.waits("a", "why"), lambda: health.leaves("a")),
        (lambda: health.notes("a", "why"), lambda: health.notes("a", None)),
    ):
        begins()
        assert not health.is_idle
        ends()
        assert health.is_idle
    health.goes_on("a")
    assert not health.is_idle
