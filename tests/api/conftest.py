"""An API on the real broker, with topics of its own for each test."""

import uuid
from collections.abc import AsyncIterator

import httpx
import pytest

from api.app import create_app
from streams.broker import EmbeddedBroker
from streams.kafka.cluster import Cluster
from streams.kafka.layout import apply_layout
from streams.settings import Settings
from tests.api.running import running

XFER_SUFFIX = ".xfer.kumomta.internal"


@pytest.fixture
def settings(broker: EmbeddedBroker) -> Settings:
    """Settings with topic names that no other test has, and few partitions, for speed."""
    own = uuid.uuid4().hex[:8]
    return Settings(
        bootstrap_servers=broker.bootstrap_servers,
        commands_topic=f"commands.{own}",
        drains_topic=f"drains.{own}",
        ledger_topic=f"ledger.{own}",
        log_topic=f"log.{own}",
        commands_partitions=2,
        drains_partitions=2,
        ledger_partitions=3,
        log_partitions=2,
        queue_partitions=2,
    )


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
def queue() -> str:
    """The name of an xfer queue that no other test has; it does not exist yet."""
    return f"http://{uuid.uuid4().hex[:12]}.example/{XFER_SUFFIX}"
