"""A stranger's transaction among commands or drain tasks: said by each worker, none of which is given up for it."""

import asyncio
from collections.abc import Iterable

import pytest

from streams.errors import Unavailable
from streams.telemetry.metrics import REGISTRIES
from streams.worker.engine import Engine
from tests.engine.world import World
from tests.fakes.clock import now, timeless
from tests.fakes.kafka import FakeKafka


def open_s(where: str) -> float:
    found = REGISTRIES["worker"].get_sample_value("xferq_open_transaction_seconds", {"where": where})
    assert found is not None
    return found


@pytest.mark.parametrize("where", ["commands", "drains"])
@timeless
async def test_an_open_transaction_is_said_and_its_end_too(where: str) -> None:
    async with World() as world:
        kafka = FakeKafka(world.broker, world.settings)
        engine = Engine(kafka, world.settings, now)
        await engine.ledger.start()
        topic = world.settings.commands_topic if where == "commands" else world.settings.drains_topic
        logs = world.broker.topics[topic].logs
        logs[1].append([(0, b"", b"before", ())])
        await engine.look()
        await kafka.producer("stranger")
        transaction = world.broker.begin("stranger", 600.0)
        logs[1].append([(0, b"", b"in it", ())], transaction)
        await engine.look()
        await asyncio.sleep(3)
        await engine.look()
        assert engine.health.noted == []  # most transactions end by themselves
        await asyncio.sleep(27)
        await engine.look()
        assert engine.health.noted == [f"a transaction is open in {topic}: what lies behind it waits (1 from offset 1)"]
        assert engine.health.problem() is None
        assert open_s(where) == pytest.approx(30, abs=1)
        world.broker.decide(transaction, commit=False)
        await asyncio.sleep(1)
        await engine.look()
        assert (engine.health.noted, open_s(where)) == ([], 0)
        await engine.ledger.stop()


class Leaderless(FakeKafka):
    """Nobody leads a partition of the commands topic."""

    async def stable_ends(
        self, topic: str, partitions: Iterable[int], *, latest_of: str | None = None
    ) -> dict[int, int]:
        if topic == self._settings.commands_topic:
            raise Unavailable("no leader")
        return await super().stable_ends(topic, partitions, latest_of=latest_of)


@timeless
async def test_inputs_that_can_t_be_looked_at_are_said_and_take_nobody_for_lost() -> None:
    async with World() as world:
        engine = Engine(Leaderless(world.broker, world.settings), world.settings, now)
        await engine.ledger.start()
        await engine.look()
        assert engine.health.noted == [
            "whether commands or drain tasks are held back can't be seen: Unavailable('no leader')"
        ]
        await engine.stop()
