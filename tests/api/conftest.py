"""An API on the real broker, with topics of its own for each test."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from api.app import create_app
from streams.broker import EmbeddedBroker
from streams.kafka.cluster import Cluster
from streams.kafka.layout import apply_layout
from streams.settings.settings import Settings
from tests.api.running import running
from tests.support.names import given, own_name, remove_topics

XFER_SUFFIX = ".xfer.kumomta.internal"


@pytest.fixture
def settings(broker: EmbeddedBroker) -> Iterator[Settings]:
    """Settings with topic names that no other test has, and few partitions, for speed."""
    first = len(given)
    own = own_name()
    yield Settings(
        bootstrap_servers=broker.bootstrap_servers,
        commands_topic=f"commands.{own}",
        drains_topic=f"drains.{own}",
        ledger_topic=f"ledger.{own}",
        log_topic=f"log.{own}",
        results_topic=f"results.{own}",
        commands_partitions=2,
        drains_partitions=2,
        ledger_partitions=3,
        log_partitions=2,
        results_partitions=2,
        queue_partitions=2,
    )
    remove_topics(broker.bootstrap_servers, *given[first:])


@pytest.fixture
async def kafka(settings: Settings) -> AsyncIterator[Cluster]:
    """The cluster, with the internal topics."""
    async with Cluster(settings) as kafka:
        reports = await apply_layout(kafka.connection, settings)
        assert all(report.is_good for report in reports if report.topic.endswith(settings.log_topic[4:]))
        yield kafka


@pytest.fixture
async def client(settings: Settings, kafka: Cluster) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API that is ready."""
    async with running(create_app(settings)) as client:
        yield client


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> str:
    """The name of an xfer queue that no other test has; it does not exist yet."""
    if "settings" in request.fixturenames:
        request.getfixturevalue("settings")  # made before: its topic is removed with those
    return f"http://{own_name()}.example/{XFER_SUFFIX}"
