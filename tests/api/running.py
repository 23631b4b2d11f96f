"""An API within the test's process, and what it has published."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
from fastapi import FastAPI

from streams.kafka.cluster import Cluster
from streams.settings.settings import Settings
from tests.support.patience import deadline

CANCEL = "/api/admin/xfer/cancel/v1"
START = "/api/admin/xfer/v1"
JSON = {"Content-Type": "application/json"}
MAX_BODY_BYTES: int = Settings.model_fields["api_body_bytes"].default


@asynccontextmanager
async def running(
    app: FastAPI, *, is_ready: bool = True, address: str = "127.0.0.1"
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app at some address, once that is ready (or at once)."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 12345))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://xferq") as client,
    ):
        if is_ready:
            await until_ready(client)
        yield client


async def until_ready(client: httpx.AsyncClient, headers: Mapping[str, str] | None = None) -> None:
    """Wait until the app can work."""
    end = deadline()
    while (answer := await client.get("/readyz", headers=headers)).status_code != 200:
        end.check(answer.text)
        await asyncio.sleep(0.05)


async def until_missing(client: httpx.AsyncClient, what: str) -> None:
    """Wait until the app says that this is missing."""
    end = deadline()
    while what not in (answer := await client.get("/readyz")).text:
        end.check(answer.text)
        await asyncio.sleep(0.05)
    assert answer.status_code == 503


async def published(kafka: Cluster, settings: Settings) -> list[dict[str, Any]]:
    """Every command on the topic, with the record's key as `key`, in the order of their partitions."""
    topic = settings.commands_topic
    partitions = range(settings.commands_partitions)
    starts, ends = await kafka.log_starts(topic, partitions), await kafka.stable_ends(topic, partitions)
    found = []
    for partition in partitions:
        reader = await kafka.reader(topic, partition, starts[partition], ends[partition])
        while reader.position < ends[partition]:
            for record in await reader.read():
                found.append({"key": (record.key or b"").decode(), **orjson.loads(record.value or b"")})
        await reader.close()
    return found


def problem_of(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """The problem in an answer, having seen that it is a complete one of that kind."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem.keys() - {"did_you_mean"} == {"type", "title", "status", "detail", "errors"}
    assert problem["status"] == status
    assert problem["type"] == f"/docs#{kind}"
    assert problem["title"]
    assert problem["detail"]
    assert "Traceback" not in answer.text
    return problem
