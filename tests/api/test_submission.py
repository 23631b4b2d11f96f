"""Many commands at once, on fakes."""

import asyncio
from types import SimpleNamespace
from typing import Any

from api.link import KafkaLink
from api.submission import CommandPublisher
from streams.domain.command import StartCommand
from streams.ledger.ledger import Ledger
from tests.engine.world import World
from tests.fakes.clock import now, timeless
from tests.fakes.faults import Faults
from tests.fakes.kafka import FakeKafka

_POSTS = 50


@timeless
async def test_a_crowd_with_keys_of_their_own_reads_the_ledger_together() -> None:
    async with World() as world:
        faults = Faults()
        kafka: Any = FakeKafka(world.broker, world.settings, faults)
        kafka.connection = SimpleNamespace(bootstrap_servers="nowhere")
        ledger = Ledger(kafka, world.settings)
        await ledger.start()
        link = KafkaLink(kafka, world.settings)
        link._ledger, link.missing = ledger, None
        publisher = CommandPublisher(link, world.settings, now)
        ids = [f"key-{number}" for number in range(_POSTS)]
        commands = [StartCommand(id=id, target="http://a.example/", reason="why") for id in ids]
        await asyncio.gather(*(publisher.submit(command, is_new=False) for command in commands))
        for partition in range(world.settings.ledger_partitions):
            asked = faults.passed.count(f"mark:{world.settings.ledger_topic}/{partition}")
            assert asked <= 6  # before and behind what each has written, and at the queue; not one for each
        commanded = world.broker.topics[world.settings.commands_topic].logs
        assert sum(log.end for log in commanded) == _POSTS
        await asyncio.gather(*(publisher.submit(command, is_new=False) for command in commands))
        await ledger.stop()
        await world.ledger.barrier_all()
        assert {status.id for status in world.ledger.statuses()} == set(ids)
