"""What Faust does to commands around a rebalance, on a real broker; the engine is one that notes what it is given."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from streams.broker import EmbeddedBroker
from streams.commands.command_record import CommandRecord
from streams.kafka.connection import Connection
from streams.telemetry.health import Health
from streams.worker.agents import AckQueue, create_app
from tests.broker.scene import Scene
from tests.support.patience import WAIT_S


class Noting:
    """Stands where the engine does."""

    def __init__(self) -> None:
        self.health = Health()
        self.commands: list[tuple[int, int]] = []
        self.has_place = asyncio.Event()

    def lose_shares(self) -> None:
        """Nothing to lose."""

    def take_shares(self, commands: Any, drains: Any) -> None:
        if commands:
            self.has_place.set()

    async def on_command(self, record: CommandRecord, owns: Any, wanted: Any) -> bool:
        self.commands.append((record.partition, record.offset))
        return True


@pytest.mark.parametrize("acknowledged", [0, 1])
async def test_a_command_that_comes_while_a_rebalance_stops_the_flow(
    broker: EmbeddedBroker, tmp_path: Path, acknowledged: int
) -> None:
    """With nothing acknowledged in its partition so far there is no offset to go back to."""
    engine: Any = Noting()
    with Scene(broker.bootstrap_servers) as scene:
        app = create_app(scene.settings, engine, Connection(scene.settings), AckQueue(), str(tmp_path))
        await app.start()
        try:
            async with asyncio.timeout(WAIT_S):
                await engine.has_place.wait()
                await app.consumer.can_resume_flow.wait()
                for number in range(acknowledged):
                    scene.cancel(f"before {number}", partition=2)
                while len(engine.commands) < acknowledged:
                    await asyncio.sleep(0.05)
                await asyncio.sleep(1.5)  # acknowledged and committed; and records are being asked for
                app.consumer.stop_flow()
                scene.cancel("a", partition=2)
                await asyncio.sleep(1.5)  # they have come, and were thrown away
                app.consumer.resume_flow()
                while (2, acknowledged) not in engine.commands:
                    await asyncio.sleep(0.05)
        finally:
            await app.stop()


async def test_what_faust_looks_for_again_and_again_is_left_out(broker: EmbeddedBroker, tmp_path: Path) -> None:
    """Where it is not, each partition on which nothing comes is an error in the log, after five minutes."""
    engine: Any = Noting()
    with Scene(broker.bootstrap_servers) as scene:
        app = create_app(scene.settings, engine, Connection(scene.settings), AckQueue(), str(tmp_path))
        await app.start()
        try:
            async with asyncio.timeout(WAIT_S):
                await engine.has_place.wait()
                await app.consumer._commit_livelock_detector(app.consumer)
                await app.monitor._sampler(app.monitor)
        finally:
            await app.stop()
