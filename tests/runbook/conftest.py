"""Kafka's scripts, and an installation that most entries are tried on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.broker import EmbeddedBroker
from tests.broker.kafka_scripts import kafka_scripts
from tests.runbook.installation import Installation


@pytest.fixture(scope="session")
def scripts() -> Iterator[Path]:
    """A PATH with Kafka's scripts and xferq in it."""
    with kafka_scripts() as folder:
        yield folder


@pytest.fixture(scope="session")
def installation(
    broker: EmbeddedBroker, scripts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """A worker and an api at work, shared by the whole run: use queues of your own."""
    with Installation(broker.bootstrap_servers, scripts, tmp_path_factory.mktemp("operator")) as running:
        running.starts_worker()
        running.starts_api()
        yield running


@pytest.fixture
def own(broker: EmbeddedBroker, scripts: Path, tmp_path: Path) -> Iterator[Installation]:
    """An installation for this test alone, of which nothing runs yet."""
    with Installation(broker.bootstrap_servers, scripts, tmp_path, stalled_ms=300) as made:
        yield made
