"""Fixtures for tests on the real broker: one world with a worker for all of them, an xfer queue for each."""

from collections.abc import Iterator

import pytest

from streams.broker import EmbeddedBroker
from tests.broker.secured import Secured, secured_broker
from tests.broker.world import World, XferQueue


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
def mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A broker that tests may kill; `running` brings it back."""
    broker = EmbeddedBroker(tmp_path_factory.mktemp("mortal"))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def running(mortal: EmbeddedBroker) -> EmbeddedBroker:
    """The mortal broker, running."""
    if not mortal.is_running:
        mortal.start()
    return mortal


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker that asks who one is, shared by the whole run: use names of your own."""
    with secured_broker(tmp_path_factory.mktemp("secured")) as running:
        yield running
