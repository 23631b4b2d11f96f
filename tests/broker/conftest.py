"""Fixtures for tests on the real broker: one world with a worker for all of them, an xfer queue for each."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from streams.broker import EmbeddedBroker
from tests.broker.secured import Secured, secured_broker
from tests.broker.world import World, XferQueue
from tests.conftest import OneNode

_LOG_FROM = pytest.StashKey[int]()
_LEFT_OUT = b"Couldn't find leader endpoint for partitions"
"""What Kafka logs of it, once for each transaction."""


@pytest.fixture(scope="session")
def world(broker: EmbeddedBroker) -> Iterator[World]:
    """Topics and a worker, shared by the whole run: look only at queues of your own."""
    with World(broker.bootstrap_servers) as world:
        world.worker()
        yield world


@pytest.fixture
def queue(world: World) -> XferQueue:
    """A new, empty xfer queue of four partitions."""
    return world.queue()


@pytest.fixture(scope="session")
def mortal(one_node: OneNode, tmp_path_factory: pytest.TempPathFactory) -> EmbeddedBroker:
    """A broker that tests may kill; `running` brings it back."""

    @contextmanager
    def start() -> Iterator[EmbeddedBroker]:
        broker = EmbeddedBroker(tmp_path_factory.mktemp("mortal"))
        broker.start()
        yield broker
        broker.kill()

    node: EmbeddedBroker = one_node.of("mortal", start)
    return node


@pytest.fixture
def running(mortal: EmbeddedBroker, request: pytest.FixtureRequest) -> EmbeddedBroker:
    """The mortal broker, running."""
    if not mortal.is_running:
        mortal.start()
    request.node.stash[_LOG_FROM] = mortal.log_path.stat().st_size
    return mortal


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: "pytest.CallInfo[None]") -> Iterator[None]:
    """Whoever waits for ever as Kafka has left a marker out (KAFKA-20734; docs/exactly-once.md) has not failed.

    An only node that comes back after a kill may be its partitions' leader for a moment before it can be reached, and
    lose them again: what its coordinator wants to end just then never ends.
    """
    report = (yield).get_result()  # type: ignore[misc]
    if report.failed and call.when == "call" and _LOG_FROM in item.stash:
        node: EmbeddedBroker = item.funcargs["running"]  # type: ignore[attr-defined]
        if _LEFT_OUT in node.log_path.read_bytes()[item.stash[_LOG_FROM] :]:
            report.outcome, report.wasxfail = "skipped", "reason: Kafka has left a transaction's marker out"
            node.kill()
            shutil.rmtree(node.data_dir)  # what hangs there is nobody else's to count


@pytest.fixture(scope="session")
def secured(one_node: OneNode, tmp_path_factory: pytest.TempPathFactory) -> Secured:
    """A broker that asks who one is, kept for the next test that wants one: use names of your own."""
    node: Secured = one_node.of("secured", lambda: secured_broker(tmp_path_factory.mktemp("secured")))
    return node
