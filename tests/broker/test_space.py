"""Space in queue topics comes back, and never that of a message that is still in a queue or claimed."""

import asyncio

from streams.broker import EmbeddedBroker
from streams.domain.ledger_partitions import ledger_width
from streams.domain.topic import topic_of
from streams.kafka.cluster import Cluster
from streams.worker.engine import Engine
from tests.broker import checker
from tests.broker.moments import claimed
from tests.broker.scene import Scene, wait_until
from tests.broker.world import World


def test_what_was_drained_is_freed_at_once(world: World) -> None:
    queue = world.queue()
    queue.put(*queue.messages(40))
    queue.committed(*queue.messages(40))
    first = queue.cancelled()
    assert first["restored"] == 80
    ends = checker.log_ends(world.servers, queue.topic)
    wait_until(lambda: checker.log_starts(world.servers, queue.topic) == ends)
    # What came since is there, and goes with the next cancel.
    queue.put(*queue.messages(8))
    assert len(queue.remaining()) == 8
    assert queue.cancelled()["restored"] == 8
    ends = checker.log_ends(world.servers, queue.topic)
    wait_until(lambda: checker.log_starts(world.servers, queue.topic) == ends)
    assert len(queue.restored()) == 88


async def test_a_claim_that_is_not_drained_holds_its_messages(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers, space_s=0.2) as scene:
        scene.put(400)
        claim = await claimed(scene, "a")
        # A scheduled queue that is dispatched at the same time shows that the rounds are made.
        other = topic_of(f"{scene.name}.other")
        scene.create({other: 4})
        for number in range(40):
            scene.publish(other, b"k", b"v", number % 4)
        settings = scene.settings
        async with Cluster(settings) as kafka:
            engine = Engine(kafka, settings)
            await engine.start()
            engine.take_shares(range(settings.commands_partitions), ())  # none of the drains
            for head in (3, 5, 7):
                scene.commit(dict.fromkeys(range(4), head), other)
                await asyncio.to_thread(wait_until, lambda head=head: _starts(scene, other) == {head})
                assert _starts(scene, claim.topic) == {0}
            engine.take_shares(range(settings.commands_partitions), range(settings.drains_partitions))
            await asyncio.to_thread(scene.done)
            await asyncio.to_thread(wait_until, lambda: _starts(scene, claim.topic) == {100})
            assert scene.problems() == []
            await engine.stop()


def _starts(scene: Scene, topic: str) -> set[int]:
    return set(checker.log_starts(scene.servers, topic).values())


def test_a_scheduled_queue_is_freed_up_to_its_dispatchers_head_and_never_beyond(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers, space_s=0.2) as scene:
        ahead, untouched, other = (topic_of(f"{scene.name}.{name}") for name in ("ahead", "untouched", "other"))
        scene.create({ahead: 4, untouched: 4, other: 4})
        for topic in (ahead, untouched, other):
            for number in range(40):
                scene.publish(topic, b"k", b"v", number % 4)
        # The last one lies beyond the end: it is an earlier topic's of the same name, and says nothing here.
        scene.commit({0: 3, 1: 0, 2: 10, 3: 1_000}, ahead)
        scene.worker().started()
        wait_until(lambda: checker.log_starts(scene.servers, ahead) == {0: 3, 1: 0, 2: 10, 3: 0})
        scene.commit({0: 1}, ahead)  # back: what is gone is gone, and nothing else goes
        for head in (2, 4):
            scene.commit({0: head}, other)
            wait_until(lambda head=head: checker.log_starts(scene.servers, other)[0] == head)  # type: ignore[misc]
        assert checker.log_starts(scene.servers, ahead) == {0: 3, 1: 0, 2: 10, 3: 0}
        assert checker.log_starts(scene.servers, untouched) == dict.fromkeys(range(4), 0)
        assert checker.log_starts(scene.servers, other) == {0: 4, 1: 0, 2: 0, 3: 0}


async def test_what_was_claimed_a_moment_ago_is_not_taken_for_dispatched(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers) as scene:
        scene.put(400)
        async with Cluster(scene.settings) as kafka:
            engine = Engine(kafka, scene.settings)
            await engine.ledger.start()
            reader = engine.ledger._reader
            await reader.stop()  # the ledger comes late to this worker: another transaction holds it up
            await claimed(scene, "a")
            freeing = asyncio.create_task(engine.space.free(scene.topic))
            await asyncio.wait([freeing], timeout=1)
            assert checker.log_starts(scene.servers, scene.topic) == dict.fromkeys(range(4), 0)
            reader.replace(range(ledger_width(scene.settings.ledger_partitions)))
            await freeing
            assert checker.log_starts(scene.servers, scene.topic) == dict.fromkeys(range(4), 0)
            await engine.stop()
