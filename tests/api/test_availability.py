"""Kafka away, topics missing, Kafka back: what the API says then, and that it recovers by itself."""

import uuid
from collections.abc import Iterator

import httpx
import pytest

from api.app import create_app
from streams.broker import EmbeddedBroker
from streams.domain.ledger_partitions import ledger_width
from streams.domain.topic import topic_of
from streams.kafka.cluster import Cluster
from streams.kafka.layout import apply_layout
from streams.settings.settings import Settings
from tests.api.running import CANCEL, START, problem_of, published, running, until_missing, until_ready
from tests.support.patience import stretched_ms

QUEUE = "http://a.example/.xfer.kumomta.internal"


@pytest.fixture
def no_kafka() -> Settings:
    """Settings with the address of a port on which nothing listens."""
    return Settings(bootstrap_servers="127.0.0.1:1", request_timeout_ms=stretched_ms(2_000))


async def test_without_kafka(no_kafka: Settings) -> None:
    async with running(create_app(no_kafka), is_ready=False) as client:
        assert (await client.get("/livez")).json() == {"status": "ok"}
        await until_missing(client, "Connection refused")
        problem = problem_of(await client.get("/readyz"), 503, "unavailable")
        assert "127.0.0.1:1" in problem["detail"]
        for answer in (
            await client.post(CANCEL, json={"queue_name": QUEUE, "reason": "r"}),
            await client.post(CANCEL, json={"queue_name": QUEUE, "reason": "r"}, headers={"Idempotency-Key": "k"}),
            await client.post(START, json={"target": "http://a.example", "reason": "r"}),
            await client.get(CANCEL),
            await client.get(f"{CANCEL}/k"),
        ):
            problem_of(answer, 503, "unavailable")
            assert int(answer.headers["retry-after"]) >= 1


async def test_what_is_wrong_with_a_request_is_said_without_kafka_too(no_kafka: Settings) -> None:
    async with running(create_app(no_kafka), is_ready=False) as client:
        problem_of(await client.post(CANCEL, json={"queue_name": "x", "reason": "r"}), 400, "not-an-xfer-queue")
        problem_of(await client.post(CANCEL, json={}), 422, "invalid-request")


async def test_topics_are_missing_at_first(settings: Settings) -> None:
    async with running(create_app(settings), is_ready=False) as client:
        await until_missing(client, f"topic {settings.commands_topic} (XFERQ_COMMANDS_TOPIC) does not exist")
        answer = await client.post(CANCEL, json={"queue_name": QUEUE, "reason": "r"})
        assert "xferq topics" in problem_of(answer, 503, "unavailable")["detail"]
        async with Cluster(settings) as kafka:
            await apply_layout(kafka.connection, settings)
        await until_ready(client)


async def test_another_partition_count(settings: Settings, kafka: Cluster) -> None:
    wrong = settings.model_copy(update={"ledger_partitions": settings.ledger_partitions + 1})
    async with running(create_app(wrong), is_ready=False) as client:
        await until_missing(
            client, f"topic {settings.ledger_topic} has {ledger_width(settings.ledger_partitions)} partitions"
        )


@pytest.fixture
def own_broker() -> Iterator[EmbeddedBroker]:
    """A broker that the test may stop."""
    with EmbeddedBroker() as broker:
        yield broker


@pytest.mark.nodes
async def test_kafka_goes_and_comes_back(own_broker: EmbeddedBroker) -> None:
    settings = Settings(
        bootstrap_servers=own_broker.bootstrap_servers,
        commands_partitions=2,
        drains_partitions=2,
        ledger_partitions=2,
        request_timeout_ms=stretched_ms(5_000),
    )
    queue = f"http://{uuid.uuid4().hex}.example/.xfer.kumomta.internal"
    body = {"queue_name": queue, "reason": "r"}
    async with Cluster(settings) as kafka:
        await apply_layout(kafka.connection, settings)
        await kafka.create([topic_of(queue)])
    async with running(create_app(settings)) as client:
        before = await client.post(CANCEL, json=body, headers={"Idempotency-Key": "before"})
        assert before.status_code == 200
        assert (await client.get(f"{CANCEL}/before")).status_code == 200
        own_broker.kill()
        # At once, and then when it has seen that nobody is there.
        problem_of(await client.post(CANCEL, json=body, headers={"Idempotency-Key": "k"}), 503, "unavailable")
        await until_missing(client, "Connection refused")
        problem_of(await client.post(CANCEL, json=body, headers={"Idempotency-Key": "k"}), 503, "unavailable")
        assert (await client.get(f"{CANCEL}/before")).json()["state"] == "accepted"  # as of the last contact
        problem_of(await client.get(f"{CANCEL}/other"), 503, "unavailable")  # who knows

        own_broker.start()
        await until_ready(client)
        assert await _post_until_taken(client, body) == 200
        assert (await client.get(f"{CANCEL}/k")).json()["state"] == "accepted"
    async with Cluster(settings) as kafka:
        assert "k" in {command["id"] for command in await published(kafka, settings)}


async def _post_until_taken(client: httpx.AsyncClient, body: dict[str, str]) -> int:
    """Repeat the request, as a client does that is told to; the last status."""
    status = 0
    for _ in range(5):
        status = (await client.post(CANCEL, json=body, headers={"Idempotency-Key": "k"})).status_code
        if status != 503:
            break
    return status
