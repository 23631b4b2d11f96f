"""What the barrier rests on: no leader that lacks what was acknowledged."""

import pytest
from confluent_kafka import Producer

from streams.broker import EmbeddedBroker
from streams.errors import Misconfigured
from streams.kafka.cluster import Cluster
from streams.kafka.elections import require_clean_elections
from streams.kafka.topics import Topics
from tests.broker.scene import WAIT_S, Scene

pytestmark = pytest.mark.alone

_SETTING = "unclean.leader.election.enable"


@pytest.mark.parametrize("topic", ["the ledger", "__transaction_state", "__consumer_offsets"])
async def test_a_topic_that_may_get_a_leader_without_what_was_acknowledged(broker: EmbeddedBroker, topic: str) -> None:
    with Scene(broker.bootstrap_servers) as scene:
        warm = Producer({"bootstrap.servers": scene.servers, "transactional.id": "warm", "log_level": 0})
        warm.init_transactions(WAIT_S)
        scene.commit({0: 0})  # both of Kafka's own topics are there
        name = scene.settings.ledger_topic if topic == "the ledger" else topic
        async with Cluster(scene.settings) as kafka:
            topics = Topics(kafka.connection)
            await require_clean_elections(kafka.connection, scene.settings)
            await topics.alter(name, {_SETTING: "true"})
            try:
                with pytest.raises(Misconfigured, match=f"topic {name}: {_SETTING} is true"):
                    await require_clean_elections(kafka.connection, scene.settings)
            finally:
                await topics.alter(name, {_SETTING: "false"})
            await require_clean_elections(kafka.connection, scene.settings)


async def test_a_worker_does_not_start_on_it_and_says_why(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers) as scene:
        async with Cluster(scene.settings) as kafka:
            await Topics(kafka.connection).alter(scene.settings.ledger_topic, {_SETTING: "true"})
        worker = scene.worker()
        assert worker.wait() == 1
        assert f"topic {scene.settings.ledger_topic}: {_SETTING} is true" in worker.log
