"""Whether a topic is gone for sure, on the model and on Kafka."""

from tests.contract_ports.rigs import Rig, eventually
from tests.contract_ports.test_ports import rig

__all__ = ["rig"]


async def test_a_topic_is_gone_when_the_controller_says_so(rig: Rig) -> None:
    topic = await rig.topic()
    assert not await rig.kafka.is_gone(topic)
    await rig.delete(topic)
    assert await rig.kafka.is_gone(topic)
    assert await rig.kafka.topic(topic) is None  # asking has not made it


async def test_all_brokers_are_asked_for_a_topic(rig: Rig) -> None:
    topic = await rig.topic()
    there = await rig.kafka.topic(topic)
    assert there is not None

    async def told() -> tuple[set[str], bool]:
        return await rig.kafka.ids(topic), topic in await rig.kafka.topics(everywhere=True)

    await eventually(told, ({there.id}, True))
    await rig.delete(topic)
    await eventually(told, (set(), False))
