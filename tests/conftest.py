"""Fixtures for the whole suite: one embedded broker and one cluster of three, started when first asked for."""

import signal
import time
from collections.abc import Callable, Iterator

import pytest

from streams.broker import EmbeddedBroker, EmbeddedCluster

pytest_plugins = ["tests.support.leftovers"]

# A shell starts what it puts into the background with SIGINT ignored, and processes hand that on to their children:
# tests that end one with Ctrl-C's signal would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> Iterator[EmbeddedBroker]:
    """A running broker, shared by the whole run: leave it running, and use topic names of your own."""
    with EmbeddedBroker(on_progress=_printer(request.config)) as running:
        yield running


@pytest.fixture(scope="session")
def _cluster_of_the_run(request: pytest.FixtureRequest) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(nodes=3, on_progress=_printer(request.config)) as running:
        yield running


@pytest.fixture
def cluster(_cluster_of_the_run: EmbeddedCluster) -> EmbeddedCluster:
    """Three running nodes, shared by the whole run; nodes that an earlier test ended or paused run again."""
    for node in _cluster_of_the_run.nodes:
        if node.is_running:
            node.resume()
    _cluster_of_the_run.start()
    return _cluster_of_the_run


_STARTED = time.monotonic()


def pytest_addoption(parser: pytest.Parser) -> None:
    """What a machine with a limit of time sets."""
    parser.addoption(
        "--minutes", type=float, metavar="N", help="skip what is marked slow and has not begun after N minutes"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a real Kafka, so that `-m "not broker"` is the quick run; what is slow comes last."""
    for item in items:
        if {"broker", "cluster"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("broker")
    items.sort(key=_is_slow)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what is slow once the time is over."""
    minutes: float | None = item.config.getoption("--minutes")
    if minutes is not None and _is_slow(item) and time.monotonic() - _STARTED > minutes * 60:
        pytest.skip(f"slow, and the {minutes:g} minutes are over: {item.path.name}")


def _is_slow(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("slow", "packaging", "model"))


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
