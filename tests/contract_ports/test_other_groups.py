"""Groups that are no consumer groups, under a name that a claim takes for one: told apart, by model and Kafka."""

import uuid

import pytest

from streams.errors import Refused, Unavailable
from streams.ports import GroupOffsets
from tests.contract_ports.rigs import Rig
from tests.contract_ports.test_ports import rig

__all__ = ["rig"]


async def test_the_members_of_a_share_group_can_neither_be_listed_nor_evicted(rig: Rig) -> None:
    topic, group = await rig.topic(), uuid.uuid4().hex
    await rig.write(topic, [b"a"])
    await rig.share_member(group, topic)
    with pytest.raises(Refused, match="share group"):
        await rig.kafka.members(group)
    with pytest.raises(Refused, match="share group"):
        await rig.kafka.hold(group)
    with pytest.raises(Refused):
        await rig.kafka.evict(group, ["anybody"])


async def test_a_share_group_has_no_offsets_and_takes_none(rig: Rig) -> None:
    """Why it must be told apart first: it looks like a group that has never dispatched anything."""
    topic, group = await rig.topic(), uuid.uuid4().hex
    await rig.write(topic, [b"a"])
    await rig.share_member(group, topic)
    assert await rig.kafka.committed(group, topic, [0]) == {}
    producer = await rig.kafka.producer(uuid.uuid4().hex)
    with pytest.raises(Unavailable):
        await producer.transact([], GroupOffsets(group, topic, {0: 1}))
    await producer.close()
