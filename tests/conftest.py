"""Fixtures for the whole suite: Kafka of each kind, started when first asked for, and the choice of a stage."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from streams.broker import EmbeddedBroker
from tests.faults.links import LinkedCluster
from tests.support.java import start_from_cache
from tests.support.stages import NAMES, select, stage_of

SHARED_KAFKA = "TEST_XFERQ_KAFKA"
"""The node that all processes of a stage share: its address and its data folder, set by `tests.support.run`."""

pytest_plugins = ["tests.support.leftovers"]

# A shell starts what it puts into the background with SIGINT ignored, and processes hand that on to their children:
# tests that end one with Ctrl-C's signal would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

start_from_cache()


@dataclass(frozen=True, slots=True)
class SharedBroker:
    """A broker that another process has started and will end."""

    bootstrap_servers: str
    data_dir: Path


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> Iterator[EmbeddedBroker | SharedBroker]:
    """A running broker, shared by the whole run: leave it running, and use topic names of your own."""
    shared = os.environ.get(SHARED_KAFKA)
    if shared:
        servers, data_dir = shared.split("|")
        yield SharedBroker(servers, Path(data_dir))
    else:
        with EmbeddedBroker(on_progress=_printer(request.config)) as running:
            yield running


class OneNode:
    """At most one node of a special kind is alive: who asks for another kind ends the one before."""

    def __init__(self) -> None:
        self._kind = ""
        self._node: Any = None
        self._stack = ExitStack()

    def of(self, kind: str, start: Callable[[], AbstractContextManager[Any]]) -> Any:
        """The node of this kind, running or as its last user left it."""
        if kind != self._kind:
            self.close()
            self._node, self._kind = self._stack.enter_context(start()), kind
        return self._node

    def close(self) -> None:
        """End it."""
        self._kind = ""
        self._stack.close()


@pytest.fixture(scope="session")
def one_node() -> Iterator[OneNode]:
    """Keeps the node of a special kind from one test to the next one that wants the same."""
    kept = OneNode()
    yield kept
    kept.close()


@pytest.fixture(scope="session")
def _cluster_of_the_run(request: pytest.FixtureRequest) -> Iterator[LinkedCluster]:
    with LinkedCluster(relayed=True, on_progress=_printer(request.config)) as running:
        yield running


@pytest.fixture
def cluster(_cluster_of_the_run: LinkedCluster) -> LinkedCluster:
    """Three running nodes, shared by the whole run, as they were before an earlier test ended, paused or parted some.

    Clients that take `relayed_servers` come through a proxy, which the test starts.
    """
    _cluster_of_the_run.mend()
    for node in _cluster_of_the_run.nodes:
        if node.is_running:
            node.resume()
    _cluster_of_the_run.start()
    return _cluster_of_the_run


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which part of the suite is run."""
    parser.addoption(
        "--stage", action="append", choices=NAMES, metavar="NAME", help=f"only tests of this stage: {', '.join(NAMES)}"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the wanted stages, in their order, and mark what needs a real Kafka, for `-m "not broker"`."""
    left_out = select(items, config.getoption("--stage") or ())
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    for item in items:
        if stage_of(item) in ("broker", "nodes", "alone", "cluster"):
            item.add_marker("broker")


def _printer(config: pytest.Config) -> Callable[[str], None]:
    """Show progress on the terminal, past pytest's capturing: a first run fetches Kafka."""
    capture = config.pluginmanager.getplugin("capturemanager")
    shown_at = 0.0

    def show(text: str) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at < 2 and not text.startswith("starting"):
            return  # a line for each of a hundred files would be too many
        shown_at = time.monotonic()
        with capture.global_and_fixture_disabled():
            print(f"\n[{text}]", end="", flush=True)

    return show
