"""Permissions that are taken away while a drain is at work, and given back: nothing is lost, all goes on by itself.

The broker's StandardAuthorizer, with `allow.everyone.if.no.acl.found`: everybody may do everything, but for the
topics that a test says otherwise about.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka.admin import AclBinding, AclBindingFilter, AclOperation, AclPermissionType, ResourcePatternType
from confluent_kafka.admin import ResourceType as Resource

from streams.broker import EmbeddedBroker
from streams.domain.topic import topic_of
from streams.kafka.cluster import Cluster
from tests.broker.moments import in_the_middle, left_over
from tests.broker.scene import Scene
from tests.support.patience import WAIT_S

pytestmark = pytest.mark.nodes

_SMALL = {"transaction_messages": 5}


@pytest.fixture(scope="module")
def guarded() -> Iterator[EmbeddedBroker]:
    """A broker that asks who may do what."""
    settings = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    with EmbeddedBroker(settings=settings) as broker:
        yield broker


@contextmanager
def denied(scene: Scene, topic: str, *operations: AclOperation) -> Iterator[None]:
    """Within the block nobody may do this with the topic, but everything else."""
    who = {"restype": Resource.TOPIC, "name": topic, "resource_pattern_type": ResourcePatternType.LITERAL}
    rules = [(AclOperation.ALL, AclPermissionType.ALLOW)] + [(name, AclPermissionType.DENY) for name in set(operations)]
    bindings = [
        AclBinding(**who, principal="User:*", host="*", operation=operation, permission_type=permission)
        for operation, permission in rules
    ]
    for future in scene.admin.create_acls(bindings).values():
        future.result(WAIT_S)
    try:
        yield
    finally:
        everything = AclBindingFilter(
            **who, principal=None, host=None, operation=AclOperation.ANY, permission_type=AclPermissionType.ANY
        )
        for future in scene.admin.delete_acls([everything]).values():
            assert len(future.result(WAIT_S)) == len(bindings)


@pytest.mark.parametrize("operation", [AclOperation.WRITE, AclOperation.DESCRIBE], ids=["write", "describe"])
def test_a_destination_without_permission(guarded: EmbeddedBroker, operation: AclOperation) -> None:
    with Scene(guarded.bootstrap_servers, **_SMALL) as scene:
        scene.put(1200)
        worker = scene.worker().started()
        scene.cancel("a")
        in_the_middle(scene)
        closed = topic_of(scene.sent[0].queue)
        # Who may not describe a topic may not write to it either: to Kafka the one includes the other.
        with denied(scene, closed, AclOperation.WRITE, operation):
            assert left_over(scene) > 0
            status = scene.done().status("a") or {}
        assert 0 < status["returned"] < 300
        assert status["returned_reasons"] == {"destination_unavailable": status["returned"]}
        assert status["restored"] == 1200 - status["returned"]
        assert scene.problems(all_restored=False) == []
        scene.cancel("b")
        assert (scene.done("b").status("b") or {})["restored"] == status["returned"]
        assert scene.problems() == []
        assert worker.is_running


@pytest.mark.parametrize("what", ["log_topic", "ledger_topic"])
def test_without_permission_for_what_no_message_can_do_without_a_drain_waits(
    guarded: EmbeddedBroker, what: str
) -> None:
    with Scene(guarded.bootstrap_servers, **_SMALL) as scene:
        scene.put(1200)
        worker = scene.worker().started()
        scene.cancel("a")
        in_the_middle(scene)
        with denied(scene, getattr(scene.settings, what), AclOperation.WRITE):
            worker.says("drain.again", 8)  # each of four partitions, and not only once
            assert left_over(scene) > 0
        scene.done()
        assert scene.problems() == []
        assert worker.is_running


async def _drained_before(scene: Scene) -> None:
    """Somebody had the drains' transactional ids: whoever has them next looks what was left open."""
    async with Cluster(scene.settings) as kafka:
        for partition in range(scene.settings.queue_partitions):
            await (await kafka.producer(f"xferq.drain.{scene.topic}.{partition}")).close()


def test_without_permission_to_look_for_a_transaction_that_hangs(guarded: EmbeddedBroker) -> None:
    """Which is Read: without it for the log a drain waits, without it for a destination that one is left out."""
    with Scene(guarded.bootstrap_servers, **_SMALL) as scene:
        scene.put(80)
        closed, log = topic_of(scene.sent[0].queue), scene.settings.log_topic
        scene.create({closed: 4})
        asyncio.run(_drained_before(scene))
        worker = scene.worker().started()
        with denied(scene, closed, AclOperation.READ):
            with denied(scene, log, AclOperation.READ):
                scene.cancel("a")
                worker.says(f"Kafka does not permit Read on topic {log}", 8)
                assert left_over(scene) == 80
            status = scene.done().status("a") or {}
        assert (status["restored"], status["returned_reasons"]) == (60, {"destination_unavailable": 20})
        worker.says(f"topic={closed} why='Kafka does not permit Read on topic {closed}")
        scene.cancel("b")
        assert (scene.done("b").status("b") or {})["restored"] == 20
        assert scene.problems() == []
