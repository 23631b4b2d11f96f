"""Dispatchers in groups that are no consumer groups: nothing is claimed from under them, and what was claimed stays."""

import pytest

from streams.domain.topic import topic_of
from tests.engine.checker import Checker
from tests.engine.world import XFER_QUEUE, World
from tests.fakes.clock import timeless

TOPIC = topic_of(XFER_QUEUE)


@pytest.mark.parametrize("kind", ["share", "streams"])
@pytest.mark.parametrize("count", [0, 5])
@timeless
async def test_nothing_is_claimed_where_nobody_can_be_evicted(kind: str, count: int) -> None:
    async with World(partitions=1) as world:
        world.queue()
        world.inject(count)
        world.broker.group(world.settings.group_of(TOPIC)).kind = kind
        world.worker()
        world.cancel()
        status = await world.ended("c1")
        assert status.state == "refused"
        assert f"is a {kind} group" in (status.detail or "")
        assert world.ledger.claims(TOPIC) == []
        assert world.broker.topics[TOPIC].logs[0].end == count


@timeless
async def test_what_was_claimed_before_is_moved_all_the_same() -> None:
    """A claim that is committed can't be refused any more, whatever its group has become since."""
    async with World(partitions=1) as world:
        world.inject(5)
        first = world.worker(drains=False)
        world.cancel()
        await world.until(lambda: bool(world.ledger.claims(TOPIC)))
        first.kill()
        world.broker.group(world.settings.group_of(TOPIC)).kind = "share"
        world.worker()
        status = await world.ended("c1")
        assert (status.state, status.restored) == ("done", 5)
        Checker(world).check()
