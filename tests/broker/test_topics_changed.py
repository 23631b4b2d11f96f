"""Topics that somebody deletes, truncates or gives more partitions while claims and drains are at work on them."""

import itertools
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager

from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions

from streams.broker import EmbeddedBroker
from streams.domain.topic import topic_of
from tests.broker import checker
from tests.broker.moments import in_the_middle, left_over, meanwhile
from tests.broker.scene import WAIT_S, Scene, wait_until
from tests.support.patience import stretched_ms

_SMALL = {"transaction_messages": 5}


def grow(scene: Scene, topic: str, partitions: int) -> None:
    """Give a topic more partitions, and wait until they are there."""
    scene.admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(WAIT_S)
    wait_until(lambda: len(scene.admin.list_topics(topic, timeout=WAIT_S).topics[topic].partitions) == partitions)
    wait_until(lambda: checker.is_ready(scene.servers, topic))
    # The writer of the messages would look by itself within minutes only.
    wait_until(lambda: len(scene._producer.list_topics(topic, timeout=WAIT_S).topics[topic].partitions) == partitions)


def truncate(scene: Scene, offsets: Mapping[int, int]) -> None:
    """Delete the queue's records below these offsets, as an operator with Kafka's tools would."""
    where = [TopicPartition(scene.topic, partition, offset) for partition, offset in offsets.items()]
    for future in scene.admin.delete_records(where).values():
        future.result(WAIT_S)


def places(scene: Scene) -> Counter[bytes]:
    """How often each message is in a scheduled queue."""
    found = checker.read(scene.servers, scene.destinations)
    return Counter(record.id or b"" for records in found.values() for record in records)


def logged(scene: Scene) -> Counter[bytes]:
    """How often each message is in the delivery log."""
    return Counter(
        record.id or b"" for record in checker.read(scene.servers, [scene.settings.log_topic])[scene.settings.log_topic]
    )


def cancelling(scene: Scene) -> AbstractContextManager[None]:
    """Messages and cancels keep coming meanwhile."""
    numbers = itertools.count()

    def put() -> None:
        scene.put(20)
        scene.cancel(f"again{next(numbers)}")

    return meanwhile(put, 0.1)


def test_a_destination_deleted_in_the_middle_of_a_drain_is_made_anew(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers, **_SMALL) as scene:
        scene.put(2000)
        worker = scene.worker().started()
        scene.cancel("a")
        in_the_middle(scene)
        gone = scene.sent[0].queue
        scene.delete(topic_of(gone))
        assert left_over(scene) > 0
        status = scene.done().status("a") or {}
        # What had been restored to it went with it, and nothing else did.
        assert (status["restored"], status["returned"]) == (2000, 0)
        found = places(scene)
        assert set(found.values()) == {1}
        lost = {message.id: message.queue for message in scene.sent if message.id not in found}
        assert set(lost.values()) == {gone}
        assert len(lost) < 450
        assert logged(scene) == Counter(message.id for message in scene.sent)
        assert worker.is_running


def test_more_partitions_for_an_xfer_queue_in_the_middle_of_claims_and_drains(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers, **_SMALL) as scene:
        scene.put(2000)
        worker = scene.worker().started()
        scene.cancel("a")
        in_the_middle(scene)
        with cancelling(scene):
            for partitions in (5, 8, 12):
                grow(scene, scene.topic, partitions)
                # From now on messages come into the new ones too.
                scene.settings = scene.settings.model_copy(update={"queue_partitions": partitions})
                before = len(scene.ids)
                wait_until(lambda before=before: len(scene.ids) > before + 2)  # type: ignore[misc]
            assert left_over(scene) > 0
        scene.cancel("last")
        ledger = scene.done()
        assert scene.problems() == []
        assert {int(p) for claim in ledger.claims(scene.topic) for p in claim["ranges"]} == set(range(12))
        assert worker.is_running


def test_more_partitions_for_a_destination_in_the_middle_of_a_drain(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers, **_SMALL, request_timeout_ms=stretched_ms(3_000)) as scene:
        messages = scene.messages(8000)
        wider = topic_of(messages[0].queue)
        scene.create({wider: 2})
        scene.put(8000)
        first = scene.worker().started()
        scene.cancel("a")
        in_the_middle(scene)
        grow(scene, wider, 3)
        # Another worker, as the first one may not look at how many there are before it is done.
        scene.worker().started()
        first.terminate()
        assert first.wait() == 0
        assert left_over(scene) > 0
        scene.done()
        # Sources 2 and 3 go to another partition of three than of two; within each, their order is kept.
        moved = [problem for problem in scene.problems() if f"of {wider}" in problem]
        assert scene.problems() == moved != []
        assert {problem.split(" are in ")[0] for problem in moved} <= {
            "messages of partition 2",
            "messages of partition 3",
        }


def test_a_queue_truncated_before_its_claim(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers) as scene:
        scene.put(400)
        truncate(scene, {0: 50, 2: 100})
        worker = scene.worker().started()
        scene.cancel("a")
        status = scene.done().status("a") or {}
        assert (status["total"], status["offsets_total"]) == (250, 250)
        at = Counter[int]()
        for message in list(scene.sent):
            if at[message.partition] < {0: 50, 2: 100}.get(message.partition, 0):
                scene.sent.remove(message)
            at[message.partition] += 1
        assert len(scene.sent) == 250
        assert scene.problems() == []
        assert worker.is_running


def test_a_queue_truncated_in_the_middle_of_its_drain(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers, **_SMALL, fetch_bytes=1 << 16) as scene:
        scene.put(4000)
        worker = scene.worker().started()
        scene.cancel("a")
        in_the_middle(scene)
        truncate(scene, {1: 990, 3: 1000})
        status = scene.done().status("a") or {}
        assert "lost" in status["detail"]
        found = places(scene)
        assert status["total"] == status["restored"] == found.total() == len(found) < 4000
        assert logged(scene) == found
        lost = [message for message in scene.sent if message.id not in found]
        assert {message.partition for message in lost} == {1, 3}
        # In each partition a piece from somewhere up to the cut, and what lies behind the cut is there.
        for partition, cut in ((1, 990), (3, 1000)):
            ids = [message.id for message in scene.sent if message.partition == partition]
            gone = [offset for offset, id in enumerate(ids) if id not in found]
            assert gone == list(range(gone[0], cut))
        scene.put(400)
        scene.cancel("b")
        assert (scene.done().status("b") or {})["restored"] == 400
        assert worker.is_running
