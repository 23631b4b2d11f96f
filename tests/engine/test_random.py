"""Anything in any order: messages, commands, dispatchers, crashes, restarts, late markers, topics that go.

After each step the invariants hold, read from committed records alone; and once the faults are over, every
command comes to its end.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streams.domain.topic import topic_of
from tests.engine.checker import Checker
from tests.engine.profile import RANDOM
from tests.engine.world import QUEUES, TARGET, XFER_QUEUE, World
from tests.fakes.clock import JumpingLoop, jumping_time
from tests.fakes.faults import Faults

_Result = TypeVar("_Result")
_QUEUES = (XFER_QUEUE, *QUEUES[:2])
_KINDS = ("crash", "crash", "unavailable", "unknown", "fenced")
_MOST_WORKERS = 3

queues = st.sampled_from(_QUEUES)
seeds = st.integers(0, 2**16)


class Machine(RuleBasedStateMachine):
    """One world."""

    settings: Mapping[str, int] = {}

    def __init__(self) -> None:
        super().__init__()
        self._restore = jumping_time()
        self._runner = asyncio.Runner(loop_factory=JumpingLoop)
        self._commands = 0
        self.world = self._run(self._begin())
        self.checker = Checker(self.world)

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return self._runner.run(work)

    async def _begin(self) -> World:
        world = World(**self.settings)
        await world.__aenter__()
        for queue in _QUEUES:
            world.queue(queue)
        return world

    async def _pass(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def teardown(self) -> None:
        try:
            self._run(self._finish())
        finally:
            self._run(self.world.__aexit__())
            self._runner.close()
            self._restore()

    async def _finish(self) -> None:
        """No more faults: all comes to its end."""
        for worker in self.world.workers:
            worker.faults.clear()
        self.world.broker.marker_delay = lambda: 0.0
        self.world.worker()  # whoever had the partitions may be gone
        ids = [f"x{number}" for number in range(self._commands)]
        if ids:
            await self.world.ended(*ids, within_s=1_000)
        await asyncio.sleep(20)
        self.checker.check()
        self.checker.heads_hold()
        for id in ids:
            status = await self.world.status(id)
            assert status is not None
            if status.state == "done" and "lost" not in (status.detail or ""):
                assert status.total == status.restored + status.returned
                assert (status.total, status.restored) == (self.checker.counts(id)[0], self.checker.counts(id)[1])

    def _alive(self) -> list[Any]:
        return [worker for worker in self.world.workers if not worker.faults.dead]

    # ---- what happens

    @initialize(seed=seeds)
    def a_worker(self, seed: int) -> None:
        self.start_a_worker(seed)

    @rule(queue=queues, count=st.integers(1, 6))
    def inject(self, queue: str, count: int) -> None:
        self.world.inject(count, queue)

    @rule(queue=queues, count=st.integers(1, 3), commit=st.booleans(), after_s=st.floats(0, 3))
    def inject_in_a_transaction(self, queue: str, count: int, commit: bool, after_s: float) -> None:
        async def work() -> None:
            opened = self.world.inject_open(count, queue)
            topic = self.world.broker.topics[topic_of(queue)]

            def decide() -> None:
                there = opened.decide(commit=commit)
                if self.world.broker.topics.get(topic.name) is not topic:
                    self.checker.excused.update(there)

            asyncio.get_running_loop().call_later(after_s, decide)

        self._run(work())

    @rule(count=st.integers(1, 2))
    def inject_what_can_t_be_restored(self, count: int) -> None:
        self.world.inject(count, headers=lambda _: [("x", b"1")])

    @rule(partition=st.integers(0, 1), again=st.booleans())
    def cancel(self, partition: int, again: bool) -> None:
        async def work() -> None:
            for _ in range(1 + again):
                self.world.cancel(f"x{self._commands}", partition=partition)

        self._run(work())
        self._commands += 1

    @rule(partition=st.integers(0, 1))
    def transfer(self, partition: int) -> None:
        async def work() -> None:
            self.world.transfer(f"x{self._commands}", partition=partition, target=TARGET)

        self._run(work())
        self._commands += 1

    @rule(seed=seeds)
    def start_a_worker(self, seed: int) -> None:
        async def work() -> None:
            if len(self._alive()) < _MOST_WORKERS:
                self.world.worker(Faults(seed), at_a_time=1 + seed % 5)
                await asyncio.sleep(seed % 3 / 50)

        self._run(work())

    @precondition(lambda self: self._alive())
    @rule(data=st.data(), kind=st.sampled_from(_KINDS), point=st.integers(0, 60))
    def a_fault_soon(self, data: st.DataObject, kind: str, point: int) -> None:
        faults = data.draw(st.sampled_from(self._alive())).faults
        if kind in ("crash", "unavailable"):
            faults.at(len(faults.passed) + point, kind)
        elif kind == "fenced":
            faults.on("transact:", kind, after=point % 12)
        else:
            faults.on(".committed" if point % 2 else ".written", kind, after=point % 5)

    @precondition(lambda self: self._alive())
    @rule(data=st.data())
    def kill_a_worker(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self._alive())).kill()

    @rule(queue=queues)
    def a_dispatcher_joins(self, queue: str) -> None:
        async def work() -> None:
            away = [dispatcher for dispatcher in self.world.dispatchers if not dispatcher.is_member]
            dispatcher = away[0] if away else self.world.dispatcher(queue)
            dispatcher.join()

        if len(self.world.dispatchers) < 4 or any(not d.is_member for d in self.world.dispatchers):
            self._run(work())

    @precondition(lambda self: self.world.dispatchers)
    @rule(data=st.data(), most=st.integers(1, 3), commits=st.booleans())
    def a_dispatcher_polls(self, data: st.DataObject, most: int, commits: bool) -> None:
        async def work() -> None:
            dispatcher.poll(most)
            if commits:
                dispatcher.commit()

        dispatcher = data.draw(st.sampled_from(self.world.dispatchers))
        self._run(work())

    @precondition(lambda self: self.world.dispatchers)
    @rule(data=st.data())
    def a_dispatcher_leaves(self, data: st.DataObject) -> None:
        async def work() -> None:
            dispatcher.leave()

        dispatcher = data.draw(st.sampled_from(self.world.dispatchers))
        self._run(work())

    @rule(longest_s=st.sampled_from([0.0, 0.01, 0.3, 1.0]), seed=seeds)
    def markers_are_late(self, longest_s: float, seed: int) -> None:
        number = seed

        def delay() -> float:
            nonlocal number
            number = (number * 1_103_515_245 + 12_345) % 2**31
            return longest_s * (number >> 16) / 2**15 if number & 2**15 else 0.0

        self.world.broker.marker_delay = delay

    @rule(queue=queues)
    def a_topic_is_deleted_and_created_again(self, queue: str) -> None:
        async def work() -> None:
            # Not between a claim's last look at the topic's id and its commit: some milliseconds that are left open,
            # as Kafka commits offsets by the topic's name.
            await asyncio.sleep(120)
            topic = self.world.broker.topics[topic_of(queue)]
            self.checker.excuse(topic)
            self.world.broker.delete(topic.name)
            self.world.queue(queue)

        self._run(work())

    @rule(seconds=st.sampled_from([0.002, 0.005, 0.01, 0.02, 0.05, 0.2, 1.0, 4.0, 12.0]))
    def time_passes(self, seconds: float) -> None:
        self._run(self._pass(seconds))

    # ---- what always holds

    @invariant()
    def the_invariants_hold(self) -> None:
        self.checker.check()


class Impatient(Machine):
    """Whose commands are kept almost at once."""

    settings: Mapping[str, int] = {"pending_after_ms": 50}


class Streaming(Machine):
    """Whose transactions are sent in parts."""

    settings: Mapping[str, int] = {"transaction_messages": 100, "drain_bytes": 1}


TestRandom = Machine.TestCase
TestRandom.settings = RANDOM
TestImpatient = Impatient.TestCase
TestImpatient.settings = RANDOM
TestStreaming = Streaming.TestCase
TestStreaming.settings = RANDOM
