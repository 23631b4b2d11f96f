"""That nobody is at work is said where a person looks, as without a worker nobody else would."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from aiokafka import AIOKafkaConsumer

from api.app import create_app
from api.cli import headline as first_line
from api.cli.headline import headline
from api.client import ApiClient
from streams.domain.status import Status
from streams.domain.topic import topic_of
from streams.errors import Refused, Unavailable
from streams.kafka.cluster import Cluster
from streams.ledger.ledger import Ledger
from streams.settings.settings import Settings
from tests.api.running import CANCEL, running
from tests.support.names import own_name
from tests.support.patience import deadline

QUEUE = "http://a.example/.xfer.kumomta.internal"


@pytest.fixture
def alone(settings: Settings) -> Settings:
    """With a group of workers that has no member."""
    return settings.model_copy(update={"worker_group": own_name()})


@pytest.fixture
async def client(alone: Settings, kafka: Cluster) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API that is ready, and knows of a command that waits and one that has ended."""
    ledger = Ledger(kafka, alone)
    for id, state, detail in (
        ("waits", "waiting", "the group is busy"),
        ("new", "accepted", None),
        ("over", "done", None),
    ):
        status = Status(id=id, type="xfer.cancel", queue_name=QUEUE, state=state, detail=detail)  # type: ignore[arg-type]
        await ledger.record_status(topic_of(QUEUE), status)
    async with running(create_app(alone)) as client:
        yield client


async def until(client: httpx.AsyncClient, path: str, is_so: Callable[[dict[str, object]], bool]) -> dict[str, object]:
    end = deadline()
    while not is_so(found := (await client.get(path)).json()):
        end.check(str(found))
        await asyncio.sleep(0.1)
    return found


async def test_nobody_is_at_work_until_somebody_is(client: httpx.AsyncClient, alone: Settings) -> None:
    ready = await until(client, "/readyz", lambda found: "notes" in found)
    why = f"no worker is at work: group {alone.worker_group} (XFERQ_WORKER_GROUP) has no member; start `xferq worker`"
    assert ready == {"status": "ok", "workers": 0, "running": 2, "notes": [why]}
    assert (await client.get("/readyz")).status_code == 200  # commands are taken: the next worker finds them
    details = {item["id"]: item["detail"] for item in (await client.get(CANCEL)).json()}
    assert details == {"waits": f"the group is busy; {why}", "new": why, "over": None}
    for id, detail in details.items():
        assert (await client.get(f"{CANCEL}/{id}")).json()["detail"] == detail
    member = AIOKafkaConsumer(
        alone.commands_topic, bootstrap_servers=alone.bootstrap_servers, group_id=alone.worker_group
    )
    await member.start()
    try:
        ready = await until(client, "/readyz", lambda found: found["workers"] == 1)
        assert ready == {"status": "ok", "workers": 1, "running": 2}
        assert (await client.get(f"{CANCEL}/new")).json()["detail"] is None
    finally:
        await member.stop()
    await until(client, "/readyz", lambda found: "notes" in found)


class Answers(ApiClient):
    """A client whose API says this."""

    def __init__(self, health: dict[str, object] | Exception) -> None:
        self._health = health

    def health(self) -> dict[str, object]:
        if isinstance(self._health, Exception):
            raise self._health
        return self._health


@pytest.mark.parametrize(
    ("health", "line"),
    [
        ({"status": "ok", "workers": 2, "running": 1}, "2 workers \u00b7 api ok \u00b7 1 running"),
        ({"status": "ok", "workers": 1, "running": 0}, "1 worker \u00b7 api ok \u00b7 0 running"),
        ({"status": "ok"}, "workers unknown \u00b7 api ok \u00b7 0 running"),
        (Unavailable("the api: can't reach Kafka"), "workers unknown \u00b7 the api: can't reach Kafka"),
    ],
)
def test_the_first_line(health: dict[str, object] | Exception, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding, wanted in (("utf-8", line), ("ascii", line.replace(" \u00b7", ","))):
        monkeypatch.setattr(first_line.sys, "stdout", type("Out", (), {"encoding": encoding}))
        assert headline(Answers(health)) == wanted


def test_who_is_not_let_in_is_told_so() -> None:
    with pytest.raises(Refused):
        headline(Answers(Refused("who are you")))
