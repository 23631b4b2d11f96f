"""Fixtures for tests on the real broker: one world with a worker for all of them, an xfer queue for each."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from streams.broker import EmbeddedBroker
from tests.broker.secured import Secured, secured_broker
from tests.broker.world import World, XferQueue
from tests.conftest import OneNode


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
def running(mortal: EmbeddedBroker) -> EmbeddedBroker:
    """The mortal broker, running."""
    if not mortal.is_running:
        mortal.start()
    return mortal


@pytest.fixture(scope="session")
def secured(one_node: OneNode, tmp_path_factory: pytest.TempPathFactory) -> Secured:
    """A broker that asks who one is, kept for the next test that wants one: use names of your own."""
    node: Secured = one_node.of("secured", lambda: secured_broker(tmp_path_factory.mktemp("secured")))
    return node
