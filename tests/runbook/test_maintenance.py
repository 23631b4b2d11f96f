"""Entries about Kafka's nodes: stopped in order, and back."""

import re
from pathlib import Path

import pytest

from streams.broker import EmbeddedBroker, EmbeddedCluster
from tests.broker.moments import in_the_middle, left_over
from tests.broker.scene import wait_until
from tests.runbook.installation import Installation, blocks

pytestmark = [pytest.mark.nodes, pytest.mark.alone]

ENTRY = "before-kafka-maintenance"


def test_one_node_of_three(cluster: EmbeddedCluster, scripts: Path, tmp_path: Path) -> None:
    whole, _ = blocks(ENTRY)
    own = Installation(cluster.bootstrap_servers, scripts, tmp_path)
    own.scene.replication = 3
    with own:
        scene, reader = own.scene, own.reader()

        def not_whole() -> list[str]:
            """Of what is ours: others may have topics that never are."""
            return [line for line in reader.types(whole).splitlines() if scene.name in line]

        own.starts_worker()
        scene.put(2_000)
        wait_until(lambda: not_whole() == [], why=not_whole)
        scene.cancel("a")
        in_the_middle(scene)
        node = cluster.nodes[2]
        node.stop()
        assert re.search(rf"Topic: {re.escape(scene.settings.ledger_topic)}\b", reader.types(whole))
        scene.done()
        node.start()
        wait_until(lambda: not_whole() == [], why=not_whole)
        scene.put(40)
        scene.cancel("b")
        scene.done()
        assert scene.problems() == []


def test_the_only_node(scripts: Path, tmp_path: Path) -> None:
    _, open_transactions = blocks(ENTRY)
    _, find, _ = blocks("a-transaction-hangs")
    broker = EmbeddedBroker(tmp_path / "kafka", heap_mb=256)
    with broker, Installation(broker.bootstrap_servers, scripts, tmp_path) as own:
        scene, reader = own.scene, own.reader()
        scene.put(4_000)
        own.starts_worker()
        scene.cancel("a")
        in_the_middle(scene)
        own.stops_worker()
        assert left_over(scene) > 0
        wait_until(lambda: reader.types(open_transactions) == "none\n")
        broker.stop()
        broker.start()
        own.starts_worker()
        scene.done()
        assert scene.problems() == []
        assert len(reader.types(find, NODE=1).strip().splitlines()) == 1  # the head
