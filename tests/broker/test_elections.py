"""What the barrier rests on: no leader that lacks what was acknowledged."""

import asyncio

import pytest
from confluent_kafka import Producer

from streams.broker import EmbeddedBroker
from streams.errors import Misconfigured
from streams.kafka.cluster import Cluster
from streams.kafka.elections import require_clean_elections
from streams.kafka.ledger_id import LedgerId
from streams.kafka.topics import Topics
from streams.worker import process as worker
from streams.worker.engine import Engine
from tests.broker.scene import WAIT_S, Scene

pytestmark = pytest.mark.alone

_SETTING = "unclean.leader.election.enable"


@pytest.mark.parametrize("name", ["__transaction_state", "__consumer_offsets"])
async def test_a_topic_of_kafkas_that_may_get_a_leader_without_what_was_acknowledged(
    broker: EmbeddedBroker, name: str
) -> None:
    with Scene(broker.bootstrap_servers) as scene:
        warm = Producer({"bootstrap.servers": scene.servers, "transactional.id": "warm", "log_level": 0})
        warm.init_transactions(WAIT_S)
        scene.commit({0: 0})  # both of Kafka's own topics are there
        async with Cluster(scene.settings) as kafka:
            topics = Topics(kafka.connection)
            await require_clean_elections(kafka.connection)
            await topics.alter(name, {_SETTING: "true"})
            try:
                with pytest.raises(Misconfigured, match=f"topic {name}: {_SETTING} is true"):
                    await require_clean_elections(kafka.connection)
            finally:
                await topics.alter(name, {_SETTING: "false"})
            await require_clean_elections(kafka.connection)


async def test_a_worker_does_not_start_on_it_and_says_why(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers) as scene:
        async with Cluster(scene.settings) as kafka:
            await Topics(kafka.connection).alter(scene.settings.ledger_topic, {_SETTING: "true"})
        process = scene.worker()
        assert process.wait() == 1
        assert f"topic {scene.settings.ledger_topic} (XFERQ_LEDGER_TOPIC): {_SETTING} is true" in process.log


@pytest.mark.parametrize("topic", ["the ledger", "__transaction_state"])
async def test_a_worker_at_work_ends_with_it(
    broker: EmbeddedBroker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_SOUND_S", 0.0)
    monkeypatch.setattr(worker, "_LOOK_S", 0.1)
    with Scene(broker.bootstrap_servers) as scene:
        scene.commit({0: 0})
        name = scene.settings.ledger_topic if topic == "the ledger" else topic
        async with Cluster(scene.settings) as kafka:
            engine, ledger_id = Engine(kafka, scene.settings), LedgerId(kafka, scene.settings)
            await ledger_id.open(remember=True)
            await engine.start()
            looking = asyncio.create_task(worker._check(engine, kafka, scene.settings, ledger_id))
            try:
                await asyncio.sleep(1)
                assert not looking.done()
                await Topics(kafka.connection).alter(name, {_SETTING: "true"})
                with pytest.raises(Misconfigured, match=f"topic {name}.*{_SETTING} is true"):
                    await asyncio.wait_for(looking, WAIT_S)
            finally:
                await Topics(kafka.connection).alter(name, {_SETTING: "false"})
                await engine.stop()
