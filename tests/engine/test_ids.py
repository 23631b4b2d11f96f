"""Whose an id is: one content's, whoever asks at once, in however many processes, and whatever is compacted."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.commands.ids import Ids, IdTaken
from streams.domain.topic import topic_of
from streams.errors import Unavailable
from streams.ledger.keys import id_key
from streams.ledger.ledger import Ledger
from tests.engine.profile import PROPERTY
from tests.engine.world import XFER_QUEUE, World
from tests.fakes.clock import run, skip, timeless
from tests.fakes.faults import Faults
from tests.fakes.kafka import FakeKafka
from tests.fakes.log import Transaction


class Asking:
    """One process that may want ids."""

    def __init__(self, world: World, seed: int) -> None:
        self.faults = Faults(seed)
        self.faults.longest_s = 0.5
        self.ledger = Ledger(FakeKafka(world.broker, world.settings, self.faults), world.settings)
        self.ids = Ids(self.ledger)

    async def wants(self, id: str, content: str) -> bool:
        """Whether the id is this content's, asked again through every error."""
        while True:
            try:
                await self.ids.take(id, content)
            except IdTaken:
                return False
            except Unavailable:
                continue
            return True


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["a", "b"]), st.floats(0, 2)), min_size=1, max_size=8),
    st.integers(0, 1_000),
    st.lists(st.integers(0, 30), max_size=3),
)
@PROPERTY
def test_an_id_is_one_contents(asked: list[tuple[int, str, float]], seed: int, failing: list[int]) -> None:
    async def work() -> None:
        async with World() as world:
            processes = [Asking(world, seed + number) for number in range(3)]
            for process in processes:
                await process.ledger.start()
                for number in failing:
                    process.faults.at(number, "unavailable")

            async def ask(number: int, content: str, after_s: float) -> tuple[str, bool]:
                await asyncio.sleep(after_s)
                return content, await processes[number].wants("k", content)

            answers = await asyncio.gather(*(ask(*one) for one in asked))
            owners = {content for content, is_its_own in answers if is_its_own}
            assert len(owners) == 1
            assert all(is_its_own == (content in owners) for content, is_its_own in answers)
            # Who comes later is told the same, and no loser's record is left.
            late = Asking(world, seed)
            await late.ledger.start()
            assert {late.ledger.owner_of("k")} == owners
            for process in [*processes, late]:
                await process.ledger.stop()

    run(work)


@timeless
async def test_an_open_transaction_elsewhere_in_the_ledger_holds_up_nobody() -> None:
    async with World(transaction_timeout_ms=900_000) as world:
        asking = Asking(world, 0)
        await asking.ledger.start()
        for partition in set(range(3)) - {asking.ledger.partition_of("k")}:
            world.broker.topics[world.settings.ledger_topic].logs[partition].append([(0, b"x", b"", ())], Transaction())
        async with asyncio.timeout(10):
            assert await asking.wants("k", "a")
        await asking.ledger.stop()


@timeless
async def test_ids_go_with_their_command_and_those_of_none_after_long() -> None:
    async with World(keep_commands_days=1.0) as world:
        world.inject(3)
        world.worker()
        world.cancel()
        await world.ended("c1")
        assert world.ledger.wanted("c1")
        await world.ledger.record("lost", [(id_key("lost", "n"), b'{"content": "x"}')])
        skip(timedelta(days=2))
        await world.until(lambda: world.ledger.status("c1") is None, 1_400)
        await world.until(lambda: not world.ledger.wanted("c1"), 60)
        assert world.ledger.owner_of("lost") == "x"
        skip(timedelta(days=2))
        world.cancel("c2")  # so that there is a barrier, and with it the broker's time
        await world.until(lambda: world.ledger.owner_of("lost") is None, 1_400)


@pytest.mark.parametrize("partition", [0, 1])
@timeless
async def test_one_id_for_two_queues_on_two_workers_is_one_command(partition: int) -> None:
    """They can't see each other's claims at once: these lie in different partitions of the ledger."""
    other = "http://other.example/.xfer.kumomta.internal"
    async with World() as world:
        world.inject(6)
        world.inject(6, other)
        world.cancel("c1", partition=partition)
        world.cancel("c1", other, partition=1 - partition)
        world.worker()
        await world.ended("c1")
        await asyncio.sleep(20)
        assert len(world.ledger.claims(topic_of(XFER_QUEUE))) + len(world.ledger.claims(topic_of(other))) == 1
