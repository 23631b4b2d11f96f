"""What TLC finds where a part of the claim is left out (tests/model), played on the real broker.

Each sequence is run with a claimer (or a cluster, or a ledger) that lacks that part, and ends as the model says; and
with the real one, where it does not. The order is forced, not hoped for: the cluster that the claimers use is the
real one behind `Stage`, which lets others act at named places, between one request and the next. Where the model has a
marker that comes later than the answer to its commit, `Stage` gives that answer early and sends the commit itself
when the test says so: for everybody else that is the same, as until the marker nobody sees a commit.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as aio
from confluent_kafka import Producer as LibrdkafkaProducer

from streams.broker import EmbeddedBroker
from streams.claim.claimer import Claimer
from streams.claim.request import ClaimRequest
from streams.domain.claim import Claim
from streams.errors import Conflict
from streams.kafka.cluster import Cluster
from streams.kafka.hold import ClassicHold, Kip848Hold
from streams.kafka.transaction import TransactionalProducer
from streams.ledger.ledger import Ledger
from streams.ledger.results import Results
from streams.ports import GroupOffsets, Producer
from streams.records import Write
from streams.telemetry.health import Health
from streams.worker.engine import utc_now
from tests.broker.moments import request
from tests.broker.scene import Scene
from tests.support.patience import WAIT_S, stretched_ms

_ALL = 8
_TURNED_DOWN = (
    aio.CommitFailedError,
    aio.IllegalGenerationError,
    aio.RebalanceInProgressError,
    aio.UnknownMemberIdError,
)
Action = Callable[[], Awaitable[None]]


class Stage(Cluster):
    """The real cluster. At its places, actions take place, each once: `producer` and `transact` (before it), `written`
    (all but its commit), `committed`, `evicted`."""

    looks = True
    """Whether the group's offsets are looked at once more when those of a transaction are written."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene.settings)
        self.at: dict[str, Action] = {}
        self.gates: list[asyncio.Event | None] = []
        """For the next transactions: answer at once, and commit when this is set."""
        self.answered = asyncio.Event()
        """Whether such an answer was given."""
        self._late: set[asyncio.Task[None]] = set()

    async def reach(self, place: str) -> None:
        """Whatever takes place here takes place now."""
        action = self.at.pop(place, None)
        if action is not None:
            await action()

    def begin(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """Work that goes on after its answer."""
        task = asyncio.ensure_future(work)
        self._late.add(task)
        return task

    async def hold(self, group: str) -> ClassicHold | Kip848Hold | None:
        hold = await super().hold(group)
        await self.reach("evicted")
        return hold

    async def producer(self, transactional_id: str) -> TransactionalProducer:
        await self.reach("producer")
        return _StagedProducer(await super().producer(transactional_id), self)


class _StagedProducer(TransactionalProducer):
    def __init__(self, real: TransactionalProducer, stage: Stage) -> None:
        super().__init__(real._producer, stage.connection)
        self._stage = stage

    async def transact(
        self, writes: Sequence[Write], offsets: GroupOffsets | None = None, before_commit: Action | None = None
    ) -> None:
        stage = self._stage
        if offsets is not None and not stage.looks:
            offsets = replace(offsets, expected=None)
        await stage.reach("transact")
        gate = stage.gates.pop(0) if stage.gates else None
        answered = asyncio.Event()

        async def written() -> None:
            if before_commit is not None:
                await before_commit()
            await stage.reach("written")
            if gate is not None:
                answered.set()
                stage.answered.set()
                await gate.wait()

        task = stage.begin(super().transact(writes, offsets, written))
        answer = asyncio.ensure_future(answered.wait())
        await asyncio.wait([task, answer], return_when=asyncio.FIRST_COMPLETED)
        answer.cancel()
        if task.done():
            task.result()
            await stage.reach("committed")


class Dispatcher:
    """One whose every step the test takes: it sends no heartbeat within the test, so it learns nothing by itself."""

    def __init__(self, scene: Scene) -> None:
        self._place = TopicPartition(scene.topic, 0)
        self._consumer = AIOKafkaConsumer(
            scene.topic,
            bootstrap_servers=scene.servers,
            group_id=scene.group,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            heartbeat_interval_ms=100_000,
            session_timeout_ms=300_000,
        )
        self.sent: set[int] = set()
        self._consumer_runs = False

    async def join(self) -> None:
        """Become a member, get the partition, read the offset to go on from."""
        async with asyncio.timeout(WAIT_S):
            await self._consumer.start()
            self._consumer_runs = True
            await self._consumer.position(self._place)

    async def send(self, count: int) -> set[int]:
        """Send so many messages; their offsets."""
        got: set[int] = set()
        async with asyncio.timeout(WAIT_S):
            while len(got) < count:
                fetched = await self._consumer.getmany(self._place, timeout_ms=1_000, max_records=count - len(got))
                got |= {record.offset for records in fetched.values() for record in records}
        self.sent |= got
        return got

    async def commit(self, offset: int | None = None) -> bool:
        """Commit what was sent, or this offset; whether Kafka takes it, from a member in good standing."""
        end = max(self.sent) + 1 if offset is None else offset
        try:
            async with asyncio.timeout(WAIT_S):
                await self._consumer.commit({self._place: end})
        except _TURNED_DOWN:
            return False
        return True

    async def leave(self) -> None:
        """Leave the group, without a last commit."""
        if self._consumer_runs:
            self._consumer_runs = False
            await self._consumer.stop()

    async def sends_of(self, claim: Claim) -> set[int]:
        """Go on once more, after the claim: what of it was sent, by one that is a member as everybody else."""
        start, end = claim.ranges[0]
        got = await self.send(1)
        return {offset for offset in got if start <= offset < end} if await self.commit() else set()


@asynccontextmanager
async def dispatching(scene: Scene, count: int = 1) -> AsyncIterator[list[Dispatcher]]:
    """So many dispatchers, not yet at work."""
    dispatchers = [Dispatcher(scene) for _ in range(count)]
    try:
        yield dispatchers
    finally:
        for dispatcher in dispatchers:
            with suppress(aio.KafkaError):
                await dispatcher.leave()


@asynccontextmanager
async def claiming(
    scene: Scene, kind: type[Claimer] = Claimer, stage: type[Stage] = Stage, ledger: type[Ledger] = Ledger
) -> AsyncIterator[tuple[Stage, Claimer]]:
    """A claimer, as one worker has it."""
    kafka = stage(scene)
    async with kafka:
        view = ledger(kafka, scene.settings)
        await view.start()
        claimer = kind(kafka, view, Results(kafka, scene.settings, Health()), scene.settings, utc_now)
        try:
            yield kafka, claimer
        finally:
            await claimer.stop()
            await view.stop()


@pytest.fixture
def scene(broker: EmbeddedBroker) -> Any:
    """A queue of one partition with some messages; no worker."""
    # Limits that no sequence here runs into, on a slow day either.
    limits = {
        "transaction_timeout_ms": stretched_ms(60_000),
        "request_timeout_ms": stretched_ms(30_000),
        "confirm_ms": stretched_ms(60_000),
    }
    with Scene(broker.bootstrap_servers, queue_partitions=1, ledger_partitions=1, hold_ms=100, **limits) as scene:
        scene.put(_ALL)
        yield scene


def offsets_of(claim: Claim) -> set[int]:
    """What was claimed."""
    return {offset for start, end in claim.ranges.values() for offset in range(start, end)}


# ---- the fence


class Unfenced(Stage):
    """Each claimer has a transactional id of its own."""

    async def producer(self, transactional_id: str) -> TransactionalProducer:
        return await super().producer(f"{transactional_id}.{id(self)}")


@pytest.mark.parametrize("stage", [Unfenced, Stage], ids=["weakened", "real"])
async def test_without_the_fence_a_message_is_claimed_twice(scene: Scene, stage: type[Stage]) -> None:
    """1. Two claimers look at the queue, each finds all of it unclaimed.
    2. The first writes its claim, the second one writes its own, both commit."""
    async with claiming(scene, stage=stage) as (one, first), claiming(scene, stage=stage) as (two, second):
        looked, moved, over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        claims: list[asyncio.Task[Claim]] = []

        async def second_has_committed() -> None:
            over.set()

        async def second_has_looked() -> None:
            looked.set()
            await within(moved)  # until the first one has written, or found that it is fenced

        async def first_has_looked() -> None:
            two.at = {"transact": second_has_looked, "committed": second_has_committed}
            claims.append(asyncio.create_task(second.claim(request(scene, "b"))))
            await within(looked)
            one.at["producer"] = first_begins_again

        async def first_begins_again() -> None:
            moved.set()

        async def first_has_written() -> None:
            moved.set()
            await within(over)

        one.at = {"transact": first_has_looked, "written": first_has_written}
        claim = await first.claim(request(scene, "a"))
        other = await claims[0]
    assert bool(offsets_of(claim) & offsets_of(other)) == (stage is Unfenced)
    assert offsets_of(claim) | offsets_of(other) == set(range(_ALL))


# ---- the eviction


class Unevicting(Stage):
    """Nobody is evicted."""

    async def hold(self, group: str) -> ClassicHold | Kip848Hold | None:
        return None


@pytest.mark.parametrize("stage", [Unevicting, Stage], ids=["weakened", "real"])
async def test_without_the_eviction_a_claimed_message_is_dispatched(scene: Scene, stage: type[Stage]) -> None:
    """1. A dispatcher has sent some messages. 2. The queue is claimed. 3. The dispatcher goes on."""
    async with claiming(scene, stage=stage) as (_, claimer), dispatching(scene) as (dispatcher,):
        await dispatcher.join()
        await dispatcher.send(2)
        assert await dispatcher.commit()
        claim = await claimer.claim(request(scene, "a"))
        assert offsets_of(claim) == set(range(2, _ALL))
        assert bool(await dispatcher.sends_of(claim)) == (stage is Unevicting)


# ---- the look before the commit


class Trusting(Stage):
    """Commits what was read, and puts back what was read, without another look at the group."""

    looks = False


@pytest.mark.parametrize("stage", [Trusting, Stage], ids=["weakened", "real"])
async def test_without_the_look_before_the_commit_what_was_sent_is_claimed(scene: Scene, stage: type[Stage]) -> None:
    """1. A claimer has looked at the queue, and stands still.
    2. A dispatcher joins the empty group, sends two messages, commits them, leaves.
    3. The claimer goes on."""
    async with claiming(scene, stage=stage) as (place, claimer), dispatching(scene) as (dispatcher,):

        async def dispatch() -> None:
            await dispatcher.join()
            await dispatcher.send(2)
            assert await dispatcher.commit()
            await dispatcher.leave()

        place.at["transact"] = dispatch
        claim = await claimer.claim(request(scene, "a"))
    assert bool(offsets_of(claim) & dispatcher.sent) == (stage is Trusting)
    assert offsets_of(claim) | dispatcher.sent == set(range(_ALL))


@pytest.mark.parametrize("stage", [Trusting, Stage], ids=["weakened", "real"])
async def test_without_the_look_before_a_head_is_put_back_what_was_sent_is_claimed(
    scene: Scene, stage: type[Stage]
) -> None:
    """1. The queue is claimed; its offset is rewound; the guard sees it, and stands still before it puts it right.
    2. A dispatcher joins, sends and commits all there is, also two messages that came after the claim, and leaves.
    3. The guard goes on. 4. The queue is claimed again."""
    async with claiming(scene, stage=stage) as (place, claimer), dispatching(scene) as (dispatcher,):
        claim = await claimer.claim(request(scene, "a"))
        scene.commit({0: _ALL - 1})
        scene.put(2)

        async def dispatch() -> None:
            await dispatcher.join()
            await dispatcher.send(3)
            assert await dispatcher.commit()
            await dispatcher.leave()

        place.at["transact"] = dispatch
        with suppress(Conflict):
            await claimer.reassert(claim)
        second = await claimer.claim(request(scene, "b"))
    assert dispatcher.sent == {_ALL - 1, _ALL, _ALL + 1}
    assert bool(offsets_of(second) & dispatcher.sent) == (stage is Trusting)


# ---- the second look


class Unlooking(Claimer):
    """Without step 7."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.confirmation.confirm = self._not_at_all  # type: ignore[method-assign]

    async def _not_at_all(self, claim: Claim, producer: Producer, seat: Any) -> None:
        pass


class Hasty(Claimer):
    """Evicts first and waits for the marker then, as also after it has put a head back."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.confirmation.confirm = self._too_early  # type: ignore[method-assign]

    async def _too_early(self, claim: Claim, producer: Producer, seat: Any) -> None:
        while True:
            await seat.evict()
            rewound = await self._heads.rewound(claim)
            if not rewound.heads:
                return
            await self._heads.put_back(claim, rewound, producer)


class Unconfirming(Claimer):
    """Goes on behind step 7 with a command that has claimed before."""

    async def _attempt(self, request: ClaimRequest) -> tuple[Claim, bool]:
        await self._ledger.barrier(request.topic)
        claim = self._ledger.claim(request.topic, request.id)
        return (claim, False) if claim is not None else await super()._attempt(request)


@pytest.mark.parametrize("kind", [Unlooking, Claimer], ids=["weakened", "real"])
async def test_without_the_second_look_a_claimed_message_is_dispatched(scene: Scene, kind: type[Claimer]) -> None:
    """1. Nobody is there when the claimer looks for somebody to evict.
    2. A dispatcher joins, and is told the old head. 3. The claim is committed; the dispatcher goes on."""
    async with claiming(scene, kind) as (stage, claimer), dispatching(scene) as (dispatcher,):
        stage.at["transact"] = dispatcher.join
        claim = await claimer.claim(request(scene, "a"))
        assert offsets_of(claim) == set(range(_ALL))
        assert bool(await dispatcher.sends_of(claim)) == (kind is Unlooking)


@pytest.mark.parametrize("kind", [Hasty, Claimer], ids=["weakened", "real"])
async def test_an_eviction_before_the_marker_comes_too_early(scene: Scene, kind: type[Claimer]) -> None:
    """1. The claim's commit is answered, its marker is not there yet. The weakened claimer evicts: nobody.
    2. A dispatcher joins, and is told the old head, as the marker is not there. 3. The marker comes."""
    async with claiming(scene, kind) as (stage, claimer), dispatching(scene) as (dispatcher,):
        gate, evicted = asyncio.Event(), asyncio.Event()

        async def written() -> None:
            async def is_evicted() -> None:
                evicted.set()

            stage.at["evicted"] = is_evicted

        stage.gates, stage.at["written"] = [gate], written
        claiming_it = asyncio.create_task(claimer.claim(request(scene, "a")))
        if kind is Hasty:
            await within(evicted)
        else:
            await within(stage.answered)
        await dispatcher.join()
        gate.set()
        claim = await claiming_it
        assert offsets_of(claim) == set(range(_ALL))
        assert bool(await dispatcher.sends_of(claim)) == (kind is Hasty)


@pytest.mark.parametrize("kind", [Hasty, Claimer], ids=["weakened", "real"])
async def test_an_eviction_before_a_head_is_seen_to_be_back_comes_too_early(scene: Scene, kind: type[Claimer]) -> None:
    """1. A dispatcher joins after the eviction, and commits behind the claim's pending offset; its commit wins.
    2. It leaves. The claimer puts the head back; the marker of that is not there yet. The weakened one evicts.
    3. Another dispatcher joins, and is told the old head. 4. The marker comes."""
    async with claiming(scene, kind) as (stage, claimer), dispatching(scene, 2) as (first, second):
        gate, evicted = asyncio.Event(), asyncio.Event()

        async def commit_behind_it() -> None:
            await first.send(1)
            assert await first.commit()
            await first.leave()
            stage.at["written"] = put_back

        async def put_back() -> None:
            async def is_evicted() -> None:
                evicted.set()

            stage.at["evicted"] = is_evicted

        stage.at |= {"transact": first.join, "written": commit_behind_it}
        stage.gates = [None, gate]
        claiming_it = asyncio.create_task(claimer.claim(request(scene, "a")))
        await within(stage.answered)
        if kind is Hasty:
            await within(evicted)
        await second.join()
        gate.set()
        claim = await claiming_it
        assert offsets_of(claim) == set(range(_ALL))
        assert bool(await second.sends_of(claim)) == (kind is Hasty)


@pytest.mark.parametrize("kind", [Unconfirming, Claimer], ids=["weakened", "real"])
async def test_a_command_that_comes_again_is_not_through_with_its_claim(scene: Scene, kind: type[Claimer]) -> None:
    """1. Nobody is there to be evicted; a dispatcher joins, and is told the old head.
    2. The claim is committed; the claimer dies. 3. The command comes to another one."""
    async with dispatching(scene) as (dispatcher,):
        async with claiming(scene) as (stage, claimer):

            async def die() -> None:
                raise asyncio.CancelledError

            stage.at |= {"transact": dispatcher.join, "committed": die}
            with suppress(asyncio.CancelledError):
                await claimer.claim(request(scene, "a"))
        async with claiming(scene, kind) as (_, claimer):
            claim = await claimer.claim(request(scene, "a"))
            assert offsets_of(claim) == set(range(_ALL))
            assert bool(await dispatcher.sends_of(claim)) == (kind is Unconfirming)


# ---- the ledger


class ShortSighted(Ledger):
    """Reads up to the last stable offset only."""

    async def _pass(self, partition: int) -> None:
        await self._reach(await self._kafka.stable_ends(self._settings.ledger_topic, [partition]))


class Heedless(Stage):
    """Looks at no stamps in the group's offsets, which would tell that the ledger is behind."""

    async def stamped(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        return {}


@pytest.mark.parametrize("ledger", [ShortSighted, Ledger], ids=["weakened", "real"])
async def test_a_ledger_read_to_its_last_stable_offset_claims_twice_for_one_command(
    scene: Scene, ledger: type[Ledger]
) -> None:
    """1. While the queue is claimed, the claim of another queue begins a transaction in the ledger. The claim is
    committed, behind the last stable offset as long as that transaction is open.
    2. The claimer dies; messages come; the command comes to another claimer. 3. That transaction ends."""
    other = LibrdkafkaProducer({"bootstrap.servers": scene.servers, "transactional.id": f"{scene.name}.other"})

    async def begin_other() -> None:
        other.init_transactions(WAIT_S)
        other.begin_transaction()
        other.produce(scene.settings.ledger_topic, None, b"claim/queue.other/x", 0)
        other.flush(WAIT_S)

    async with claiming(scene) as (stage, claimer):
        stage.at["transact"] = begin_other
        claim = await claimer.claim(request(scene, "a"))
    scene.put(2)
    async with claiming(scene, ledger=ledger, stage=Heedless) as (_, claimer):
        again = asyncio.create_task(claimer.claim(request(scene, "a")))
        if ledger is Ledger:
            await asyncio.wait([again], timeout=1)
            assert not again.done()
        else:
            await asyncio.wait([again], timeout=WAIT_S)
        await asyncio.to_thread(other.commit_transaction, WAIT_S)
        second = await again
    assert offsets_of(claim) == set(range(_ALL))
    assert (second.ranges != claim.ranges) == (ledger is ShortSighted)


async def within(event: asyncio.Event) -> None:
    """Wait for it, not for ever."""
    async with asyncio.timeout(WAIT_S):
        await event.wait()
