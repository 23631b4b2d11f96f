"""A queue's heads moved by others while claims and drains are at work: rewound, deleted, committed late."""

import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.broker import EmbeddedBroker
from tests.broker.moments import dispatcher, in_the_middle, left_over
from tests.broker.scene import WAIT_S, Scene, wait_until
from tests.support.patience import deadline

_SMALL = {"transaction_messages": 5}


def commit_late(consumer: Consumer, scene: Scene, offsets: Mapping[int, int]) -> bool:
    """Commit without membership, as who was evicted does; whether the group took it."""
    try:
        consumer.commit(
            offsets=[TopicPartition(scene.topic, partition, offset) for partition, offset in offsets.items()],
            asynchronous=False,
        )
    except KafkaException:
        return False
    return True


@contextmanager
def moving_heads(scene: Scene) -> Iterator[list[str]]:
    """The heads go back, or away, again and again meanwhile; what was done to them so far."""
    stop = threading.Event()
    done: list[str] = []
    chance = random.Random(4)

    def move() -> None:
        while not stop.wait(0.25):
            back = {partition: chance.randrange(max(head, 1)) for partition, head in scene.committed().items()}
            if chance.random() < 0.3:
                try:
                    scene.admin.delete_consumer_groups([scene.group])[scene.group].result(WAIT_S)
                except KafkaException:
                    continue  # held just now, or a transaction is pending
                done.append("deleted")
            elif back:
                # A consumer each time: it commits into the group without ever having joined it.
                late = dispatcher(scene)
                if commit_late(late, scene, back):
                    done.append("rewound")
                late.close()

    thread = threading.Thread(target=move)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


def test_heads_that_go_back_or_away_again_and_again_during_claims_and_drains(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers, **_SMALL) as scene:
        scene.put(2000)
        worker = scene.worker().started()
        scene.cancel("a")
        in_the_middle(scene)
        with moving_heads(scene) as moved:
            number = 0
            while number < 3 or moved.count("rewound") < 6 or moved.count("deleted") < 2:
                scene.put(200)
                scene.cancel(f"b{number}")
                scene.done(f"b{number}")
                number += 1
        scene.cancel("last")
        ledger = scene.done()
        assert scene.problems() == []
        wait_until(lambda: scene.committed() == ledger.heads(scene.topic))
        assert worker.is_running


def test_a_dispatcher_commits_seconds_after_its_eviction(broker: EmbeddedBroker) -> None:
    # 1. A dispatcher has polled the first messages of its partitions, and works on them for seconds.
    # 2. A cancel evicts it and claims them; the hold is over, the group empty: the dispatcher does not poll.
    # 3. It commits what it had polled. Its library sends that without membership, and Kafka takes it: the head
    #    lies below the claim, in the middle of what is drained.
    with Scene(broker.bootstrap_servers, **_SMALL, hold_ms=500) as scene:
        worker = scene.worker().started()
        for number in range(3):
            scene.put(1600)
            member = dispatcher(scene)
            member.subscribe([scene.topic])
            polled: dict[int, int] = {}
            end = deadline()
            while len(polled) < 4:
                end.check()
                for message in member.consume(50, 0.2):
                    assert message.error() is None
                    polled[message.partition()] = message.offset() + 1
            scene.cancel(f"a{number}")
            in_the_middle(scene, (number + 0.1) / (number + 1))
            member.close()  # it is not a member any more: this leaves nothing and commits nothing
            late = dispatcher(scene)
            wait_until(lambda late=late, polled=polled: commit_late(late, scene, polled))  # type: ignore[misc]
            assert left_over(scene) > 0
            late.close()
            ledger = scene.done()
            wait_until(lambda ledger=ledger: scene.committed() == ledger.heads(scene.topic))  # type: ignore[misc]
        assert scene.problems() == []
        assert worker.log.count("claim.head_restored") >= 3
