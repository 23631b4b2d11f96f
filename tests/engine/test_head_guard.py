"""Which heads are guarded: those of the topic that has the name today."""

import asyncio

import pytest

from streams.domain.claim import Head
from streams.domain.topic import topic_of
from streams.ledger.backup import _claimed_at
from streams.ledger.keys import head_key
from streams.ledger.view import LedgerView
from tests.engine.world import XFER_QUEUE, World
from tests.fakes.clock import timeless
from tests.fakes.faults import Faults
from tests.fakes.log import FakeRecord

TOPIC = topic_of(XFER_QUEUE)


@pytest.mark.parametrize("count", [8, 10])
@timeless
async def test_the_heads_of_a_topic_that_was_made_again_are_guarded(count: int) -> None:
    """Also with as many messages in it as before."""
    async with World(space_s=1e6, gone_s=1.0) as world:
        world.inject(8)
        faults = Faults()
        world.worker(faults)
        world.cancel("c1")
        await world.ended("c1")
        del world.broker.topics[TOPIC]
        await asyncio.sleep(60)
        world.inject(count)
        group = world.broker.group(world.settings.group_of(TOPIC))
        for partition in (0, 1):
            group.set_offset(TOPIC, partition, 0)
        faults.on("delete_before:", "unavailable", times=1_000)
        world.cancel("c2")
        await world.ended("c2")
        assert [group.offset(TOPIC, partition) for partition in (0, 1)] == [count // 2] * 2
        await asyncio.sleep(60)
        for partition in (0, 1):
            group.set_offset(TOPIC, partition, 1)
        await asyncio.sleep(30)
        assert [group.offset(TOPIC, partition) for partition in (0, 1)] == [count // 2] * 2


def test_after_a_restore_the_last_claim_is_that_of_the_topic_of_today() -> None:
    """A topic of two partitions was claimed, deleted, made again; since then, only its first partition was claimed."""
    ledger: dict[bytes, bytes] = {}
    for partition, id, at in [(0, "old", "2026-01-01"), (1, "old", "2026-01-01"), (0, "new", "2026-06-01")]:
        head = Head(topic_id=id, offset=5, group="g", claimed_at=f"{at}T00:00:00Z")
        ledger[head_key(TOPIC, partition).encode()] = head.to_bytes()
    view = LedgerView()
    for offset, (key, value) in enumerate(sorted(ledger.items(), key=_claimed_at)):
        view.apply(FakeRecord(0, offset, 0, key, value, ()))
    last = view.last_claim(TOPIC, "g")
    assert last is not None
    assert last.topic_id == "new"
