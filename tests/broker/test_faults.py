"""Workers and brokers that die, hang and come back in the middle of it: exactly once in the end, by itself."""

import asyncio
import random
import time

import pytest

from streams.broker import EmbeddedBroker
from streams.errors import Unavailable
from streams.kafka.cluster import Cluster
from tests.broker import checker
from tests.broker.moments import claimed, in_the_middle, left_over, meanwhile
from tests.broker.scene import Scene, WorkerProcess, wait_until
from tests.support.patience import WAIT_S, allowed_s, deadline, stretched_ms

pytestmark = pytest.mark.alone

_NEVER_MS = 3_600_000
_SMALL = {"transaction_messages": 5}
"""Drains in many small transactions, so that something can happen in the middle."""


def draining(*workers: WorkerProcess) -> WorkerProcess:
    """The one of the workers that drains more partitions."""
    return max(workers, key=lambda worker: worker.log.count("drain.started"))


# ---- workers


def test_killed_in_the_middle_of_a_drain_another_worker_goes_on(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers, **_SMALL) as scene:
        scene.put(2000)
        workers = scene.workers(2)
        scene.cancel("a")
        in_the_middle(scene)
        draining(*workers).kill()
        assert left_over(scene) > 0
        scene.done()
        assert scene.problems() == []


def test_killed_in_the_middle_of_a_drain_the_same_worker_goes_on_after_its_restart(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers, **_SMALL) as scene:
        scene.put(2000)
        worker = scene.worker().started()
        scene.cancel("a")
        for share in (0.05, 0.3):  # twice, the second time with what the first has left
            in_the_middle(scene, share)
            worker.kill()
            assert left_over(scene) > 0
            worker = scene.worker()
        scene.done()
        assert scene.problems() == []


def test_killed_around_the_claim_the_command_is_carried_out_once(broker: EmbeddedBroker) -> None:
    delays = (None, 0.0, 0.002, 0.01, random.uniform(0, 0.05))
    scenes = [Scene(broker.bootstrap_servers) for _ in delays]
    try:
        for scene in scenes:
            scene.__enter__()
            scene.put(400)
        for scene, delay in zip(scenes, delays, strict=True):
            worker = scene.worker().started()
            scene.cancel("a")
            if delay is not None:
                scene.until(lambda ledger, scene=scene: ledger.claims(scene.topic))  # type: ignore[misc]
                time.sleep(delay)
            worker.kill()
            scene.worker()
        for scene in scenes:
            scene.done()
            assert scene.problems() == []
            assert len(scene.ledger().claims(scene.topic)) == 1
    finally:
        for scene in scenes:
            scene.__exit__(None, None, None)


def test_a_worker_that_wakes_up_after_others_have_finished_its_work_does_nothing_twice(broker: EmbeddedBroker) -> None:
    # Its transaction does not time out meanwhile: nothing but the fence ends it.
    with Scene(broker.bootstrap_servers, **_SMALL, transaction_timeout_ms=stretched_ms(60_000)) as scene:
        scene.put(2000)
        workers = scene.workers(2)
        scene.cancel("a")
        in_the_middle(scene)
        zombie = draining(*workers)
        zombie.pause()
        assert left_over(scene) > 0
        scene.done()
        times = zombie.log.count("worker.assigned")
        zombie.resume()
        zombie.says("worker.assigned", times + 1)
        scene.put(400)
        scene.cancel("b")
        scene.done()
        assert scene.problems() == []
        assert zombie.is_running


def test_workers_that_come_and_go_during_a_drain(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers, **_SMALL) as scene:
        scene.put(6_000)
        first = scene.worker().started()
        scene.cancel("a")
        in_the_middle(scene, 0.05)
        second = scene.worker().started()
        first.terminate()
        assert first.wait() == 0
        assert left_over(scene) > 0
        in_the_middle(scene, 0.3)
        third = scene.worker().started()
        second.terminate()
        assert second.wait() == 0
        scene.done()
        assert scene.problems() == []
        assert third.is_running


def test_sigterm_ends_a_worker_at_the_edge_of_a_large_drain(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers) as scene:
        scene.put(40_000, size=2000, queues=16)
        worker = scene.worker().started()
        scene.cancel("a")
        in_the_middle(scene)
        worker.terminate()
        assert worker.wait() == 0
        # A commit is answered before its markers are written; what was left open would stay so for longer.
        wait_until(lambda: scene.open_transactions() == [], allowed_s(5))
        assert left_over(scene) > 0
        scene.worker()
        scene.done()
        assert scene.problems() == []


def test_two_sigterms_are_one(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers, **_SMALL) as scene:
        scene.put(2000)
        worker = scene.worker().started()
        scene.cancel("a")
        in_the_middle(scene)
        while worker.is_running:  # however late one comes
            worker.terminate()
            time.sleep(0.001)
        assert worker.wait() == 0
        wait_until(lambda: scene.open_transactions() == [], allowed_s(5))
        assert left_over(scene) > 0
        scene.worker()
        scene.done()
        assert scene.problems() == []


# ---- brokers


def test_broker_killed_and_restarted_in_the_middle_of_claims_and_drains(running: EmbeddedBroker) -> None:
    # Not stopped in order: an only node that is told to stop may complete a commit without writing its markers (see
    # "The only node is stopped" in docs/exactly-once.md). Of three nodes, fault runs stop one all the time.
    with Scene(running.bootstrap_servers, **_SMALL) as scene:
        worker = scene.worker().started()
        for id in ("a", "b", "c"):
            scene.put(2000)
            scene.cancel(id)
            if id != "c":  # the third dies at about the time of the claim
                wanted = len(scene.sent) - 1800
                scene.until(lambda ledger, wanted=wanted: scene.restored(ledger) >= wanted)  # type: ignore[misc]
            running.kill()
            time.sleep(1)
            running.start()
            assert left_over(scene) > 0
            scene.done()
        assert worker.is_running
        assert scene.problems() == []


@pytest.mark.nodes
async def test_a_new_cluster_whose_first_coordinator_is_not_there_yet() -> None:
    with EmbeddedBroker() as new, Scene(new.bootstrap_servers) as scene:
        async with Cluster(scene.settings) as kafka:
            end = deadline()
            while True:
                try:
                    assert await kafka.committed(scene.group, scene.topic, range(4)) == {}
                    break
                except Unavailable:
                    end.check()
                    await asyncio.sleep(0.05)
        scene.commit({1: 7})
        async with Cluster(scene.settings) as kafka:
            assert await kafka.committed(scene.group, scene.topic, range(4)) == {1: 7}
            assert await kafka.committed(scene.group, scene.topic, [0, 2]) == {}


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_sigterm_ends_a_worker_while_kafka_is_away(running: EmbeddedBroker, fault: str) -> None:
    # Transactions that outlast the pause: KAFKA-20734, as docs/exactly-once.md tells it, is another story.
    with Scene(running.bootstrap_servers, **_SMALL, transaction_timeout_ms=stretched_ms(60_000)) as scene:
        scene.put(2000)
        worker = scene.worker().started()
        scene.cancel("a")
        in_the_middle(scene)
        getattr(running, fault)()
        try:
            time.sleep(1)
            worker.terminate()
            worker.wait(allowed_s(10))  # as is promised, whatever hangs
        finally:
            if running.is_running:
                running.resume()
            else:
                running.start()
        assert left_over(scene) > 0
        scene.worker()
        scene.done()
        assert scene.problems() == []


def test_a_broker_that_hangs_longer_than_requests_and_sessions_last(running: EmbeddedBroker) -> None:
    with Scene(
        running.bootstrap_servers,
        **_SMALL,
        request_timeout_ms=stretched_ms(2_000),
        stalled_ms=stretched_ms(1_000),
        transaction_timeout_ms=stretched_ms(60_000),
    ) as scene:
        scene.put(2000)
        worker = scene.worker().started()
        scene.cancel("a")
        in_the_middle(scene)
        running.pause()
        time.sleep(9)
        running.resume()
        assert left_over(scene) > 0
        scene.done()
        assert scene.problems() == []
        assert worker.is_running


# ---- commands


def test_cancels_of_one_queue_by_two_workers_at_once_while_messages_come_in(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers) as scene:
        scene.workers(2)
        owners = scene.owners()
        here = min(owners)
        there = next(partition for partition, owner in owners.items() if owner != owners[here])
        with meanwhile(lambda: scene.put(20), 0.01):
            for number in range(15):
                scene.cancel(f"here{number}", partition=here)
                scene.cancel(f"there{number}", partition=there)
                if number % 5 == 0:  # the same command twice, also by both
                    scene.cancel(f"here{number}", partition=there)
                    scene.cancel(f"there{number}", partition=there)
            scene.done()
        scene.cancel("last")
        ledger = scene.done()
        assert scene.problems() == []
        assert sum((ledger.status(id) or {})["total"] for id in scene.ids) == len(scene.sent)
        assert len(ledger.claims(scene.topic)) <= len(scene.ids) == 31


# ---- drain tasks


async def test_a_claim_whose_tasks_were_never_published_is_drained(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers, stalled_ms=500) as scene:
        scene.put(400)
        await claimed(scene, "a")
        scene.worker()
        scene.done()
        assert scene.problems() == []


async def test_tasks_that_come_twice_to_two_workers_out_of_order_among_garbage(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers, **_SMALL, stalled_ms=_NEVER_MS) as scene:
        scene.put(2000)
        await claimed(scene, "a")
        scene.put(2000)
        second = await claimed(scene, "b")
        scene.workers(2)
        drains, count = scene.settings.drains_topic, scene.settings.drains_partitions
        long = "queue." + "x" * 40_000
        garbage = [None, b"", b"\xff", b"[1]", b"{}", b'{"topic": "queue.nowhere", "partition": -1}', b"null", b'"x"']
        garbage += [b'{"topic": "%s", "partition": 0}' % long.encode(), b'{"topic": "a/b", "partition": "1e9"}']
        garbage += [b'{"topic": null, "partition": 0}', b'{"topic": "", "partition": 0}']
        for number in range(count):
            for value in garbage:
                scene.publish(drains, b"x", value, number)
        # The later claim's only, for each partition in three partitions of the topic: both workers are at it.
        for partition in second.ranges:
            for number in (partition, partition + 1, partition + 4):
                scene.publish(drains, b"x", second.task(partition), number % count)
        scene.done()
        assert scene.problems() == []


# ---- topics


def test_a_topic_that_was_deleted_and_created_again_starts_afresh(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers) as scene:
        scene.worker().started()
        scene.put(400)
        scene.cancel("a")
        scene.done()
        assert scene.problems() == []
        scene.delete(scene.topic)
        scene.create({scene.topic: scene.settings.queue_partitions})
        scene.put(40)
        scene.cancel("b")
        ledger = scene.done()
        assert (ledger.status("b") or {})["restored"] == 40
        assert scene.problems() == []


async def test_a_topic_deleted_between_claim_and_drain(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers, stalled_ms=500) as scene:
        scene.put(400)
        await claimed(scene, "a")
        scene.delete(scene.topic)
        scene.create({scene.topic: scene.settings.queue_partitions})
        lost, scene.sent = scene.sent, []
        new = scene.put(800)
        assert {message.id for message in lost} < {message.id for message in new}
        worker = scene.worker().started()
        status = scene.done("a").status("a")
        assert status is not None
        assert (status["state"], status["total"], status["restored"]) == ("done", 0, 0)
        assert "lost" in status["detail"]
        scene.cancel("b")
        ledger = scene.done("b")
        assert (ledger.status("b") or {})["restored"] == 800
        assert scene.problems() == []
        assert worker.is_running


@pytest.mark.parametrize("again", [False, True], ids=["gone", "created again"])
def test_a_topic_deleted_in_the_middle_of_its_drain(broker: EmbeddedBroker, again: bool) -> None:
    with Scene(broker.bootstrap_servers, transaction_messages=10, fetch_bytes=1 << 16) as scene:
        old = scene.put(2000)
        worker = scene.worker().started()
        scene.cancel("a")
        in_the_middle(scene)
        scene.delete(scene.topic)
        if again:
            scene.create({scene.topic: scene.settings.queue_partitions})
            scene.put(2000)  # at the very offsets that were claimed
        status = scene.done("a").status("a")
        assert status is not None
        assert "lost" in status["detail"]
        assert 0 < status["restored"] == status["total"] < 2000
        if again:
            scene.cancel("b")
            ledger = scene.done("b")
            assert (ledger.status("b") or {})["restored"] == 2000
            there = checker.read(scene.servers, scene.destinations)
            ids = [record.id for records in there.values() for record in records]
            assert len(ids) == len(set(ids))
            assert len(set(ids) & {message.id for message in old}) == status["restored"]
        assert worker.is_running


def test_a_truncated_topic_is_refused(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers) as scene:
        scene.worker().started()
        scene.put(400)
        scene.cancel("a")
        ledger = scene.done()
        # As if the topic had lost what was behind offset 105 of its partition 1 since that was claimed.
        key = f"head/{scene.topic}/1"
        value = f'{{"topic_id": "{scene.topic_id()}", "offset": 105}}'.encode()
        scene.publish(scene.settings.ledger_topic, key.encode(), value, ledger.partitions[key])
        scene.put(4)
        scene.cancel("b")
        status = scene.done().status("b") or {}
        assert status["state"] == "refused"
        assert status["detail"].startswith("truncated: partition 1 ")
        assert len(scene.ledger().claims(scene.topic)) == 1


# ---- the group's offsets


async def test_heads_that_were_rewound_or_deleted_come_back(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers, stalled_ms=_NEVER_MS) as scene:
        scene.put(400)
        claim = await claimed(scene, "a")
        heads = {partition: end for partition, (_, end) in claim.ranges.items()}
        assert scene.committed() == heads
        scene.worker().started()
        scene.commit(dict.fromkeys(heads, 3))
        wait_until(lambda: scene.committed() == heads)
        scene.admin.delete_consumer_groups([scene.group])[scene.group].result(WAIT_S)
        wait_until(lambda: scene.committed() == heads)
        # Not even a claim that comes right after it takes anything twice.
        scene.commit(dict.fromkeys(heads, 0))
        scene.put(40)
        scene.cancel("b")
        scene.done("b")
        for partition in claim.ranges:
            scene.publish(scene.settings.drains_topic, b"x", claim.task(partition))
        ledger = scene.done("a", "b")
        assert {id: (ledger.status(id) or {})["offsets_total"] for id in ("a", "b")} == {"a": 400, "b": 40}
        assert scene.problems() == []
