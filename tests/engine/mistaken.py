"""A worker whose clock is wrong."""

from datetime import timedelta

import orjson

from streams.commands.command_record import CommandRecord
from streams.domain.topic import topic_of
from streams.worker.engine import Engine
from tests.engine.world import XFER_QUEUE, World
from tests.fakes.clock import now
from tests.fakes.kafka import FakeKafka
from tests.support.draining import drain


class Mistaken:
    """A worker's engine whose clock is wrong, and which is given commands by hand."""

    def __init__(self, world: World, wrong_by: timedelta) -> None:
        self._world = world
        kafka = FakeKafka(world.broker, world.settings)
        self.engine = Engine(kafka, world.settings, lambda: now() + wrong_by)
        self.record: CommandRecord | None = None

    async def __aenter__(self) -> "Mistaken":
        await self.engine.start()
        self.engine.take_shares(range(self._world.settings.commands_partitions), ())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.stop()

    async def cancels(self) -> None:
        """Carry out c1, of the broker's present time; the same record when called again."""
        world = self._world
        if self.record is None:
            value = orjson.dumps({"type": "xfer.cancel", "queue_name": XFER_QUEUE, "reason": "why", "id": "c1"})
            self.record = CommandRecord(world.settings.commands_topic, 0, 0, world.broker.now_ms(), value)
        assert await self.engine.on_command(self.record, lambda: True)
        for claim in world.ledger.claims(topic_of(XFER_QUEUE)):
            for partition in claim.ranges:
                await drain(self.engine.drainer, claim.topic, partition)
        await self.engine.commands.outcomes.finish("c1")
