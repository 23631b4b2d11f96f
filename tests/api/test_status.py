"""GET of statuses: the list with its pages and filters, one command, what is not known."""

from typing import Any

import httpx
import pytest

from api.app import create_app
from api.models import CommandStatus
from streams.domain.claim import Claim, Progress
from streams.domain.status import Status
from streams.domain.topic import topic_of
from streams.kafka.cluster import Cluster
from streams.ledger.keys import claim_key, command_key, progress_key
from streams.ledger.ledger import Ledger
from streams.settings.settings import Settings
from tests.api.running import CANCEL, START, problem_of, running

FIELDS = [
    *("id", "type", "queue_name", "reason", "state", "detail", "queues"),
    *("total", "restored", "returned", "returned_reasons", "offsets_total", "offsets_done"),
    *("requested_at", "requested_by", "expires_at", "claimed_at", "finished_at"),
]
QUEUE = "http://a.example/.xfer.kumomta.internal"
OTHER = "http://b.example/.xfer.kumomta.internal"
MOMENT = "2026-11-24T10:00:00Z"


async def record(kafka: Cluster, settings: Settings, *statuses: Status) -> None:
    """Write statuses into the ledger, as a worker would."""
    ledger = Ledger(kafka, settings)
    for status in statuses:
        await ledger.record_status(topic_of(status.queue_name or status.id), status)


def a_status(id: str, **fields: Any) -> Status:
    return Status(**{"id": id, "type": "xfer.cancel", "queue_name": QUEUE, "reason": "r", "state": "waiting"} | fields)


@pytest.fixture
async def five(kafka: Cluster, settings: Settings) -> None:
    """Five commands, the first one the oldest; services write times in more than one way."""
    await record(
        kafka,
        settings,
        a_status("one", requested_at="2026-11-24T09:59:59Z"),
        a_status("two", requested_at="2026-11-24T12:00:00+02:00", queue_name=OTHER),
        a_status("three", requested_at="2026-11-24T10:00:00.5Z"),
        a_status("four", requested_at="2026-11-24T10:00:01Z", queue_name=OTHER),
        a_status("five", requested_at="2026-11-24T10:00:02Z", state="refused", detail="not an xfer queue"),
    )


async def ids(client: httpx.AsyncClient, **query: object) -> list[str]:
    answer = await client.get(CANCEL, params={name: str(value) for name, value in query.items()})
    assert answer.status_code == 200, answer.text
    return [status["id"] for status in answer.json()]


@pytest.mark.usefixtures("five")
async def test_the_list_is_newest_first(client: httpx.AsyncClient) -> None:
    assert await ids(client) == ["five", "four", "three", "two", "one"]


@pytest.mark.usefixtures("five")
async def test_the_list_in_pages(client: httpx.AsyncClient) -> None:
    pages, url = [], f"{CANCEL}?limit=2"
    while url:
        answer = await client.get(url)
        pages.append([status["id"] for status in answer.json()])
        url = str(answer.links.get("next", {}).get("url", ""))
    assert pages == [["five", "four"], ["three", "two"], ["one"]]
    assert await ids(client, before="one") == []
    assert "next" not in (await client.get(f"{CANCEL}?limit=5")).links  # all of them: there is no other page
    assert "next" in (await client.get(f"{CANCEL}?limit=4")).links


@pytest.mark.usefixtures("five")
async def test_the_list_of_one_queue(client: httpx.AsyncClient) -> None:
    assert await ids(client, queue_name=OTHER) == ["four", "two"]
    assert await ids(client, queue_name=OTHER, limit=1) == ["four"]
    assert await ids(client, queue_name=OTHER, before="four") == ["two"]
    assert await ids(client, queue_name=OTHER, before="three") == ["two"]  # an id of another queue's is a place too
    assert await ids(client, queue_name="nobody") == []


async def test_the_pages_of_one_queue_lead_on(client: httpx.AsyncClient, kafka: Cluster, settings: Settings) -> None:
    queue = "http://\u00fc.example/?a=b&c=<>,;.xfer.kumomta.internal"
    await record(kafka, settings, *(a_status(str(n), queue_name=queue, requested_at=MOMENT) for n in range(3)))
    answer = await client.get(CANCEL, params={"queue_name": queue, "limit": 2})
    assert [status["id"] for status in answer.json()] == ["2", "1"]
    following = await client.get(answer.links["next"]["url"])
    assert [status["id"] for status in following.json()] == ["0"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
    ],
)
async def test_a_query_that_is_not_valid(client: httpx.AsyncClient, query: str, field: str) -> None:
    (error,) = problem_of(await client.get(f"{CANCEL}?{query}"), 422, "invalid-request")["errors"]
    assert (error["location"], error["field"]) == ("query", field)


@pytest.mark.parametrize("before", ["nope", "", "one%0A"])
async def test_a_page_after_a_command_that_is_not_known(client: httpx.AsyncClient, before: str) -> None:
    problem_of(await client.get(f"{CANCEL}?before={before}"), 404, "unknown-command")


async def test_a_status_has_all_fields_and_no_others(
    client: httpx.AsyncClient, kafka: Cluster, settings: Settings
) -> None:
    await record(kafka, settings, a_status("k", requested_at=MOMENT, command="internal", detail="waits"))
    status = (await client.get(f"{CANCEL}/k")).json()
    assert sorted(status) == sorted(FIELDS)
    assert (status["total"], status["claimed_at"], status["restored"], status["detail"]) == (None, None, 0, "waits")
    assert (await client.get(CANCEL)).json() == [status]


async def test_a_record_that_was_no_command(client: httpx.AsyncClient, kafka: Cluster, settings: Settings) -> None:
    await record(kafka, settings, Status(id="t-0-1-2", state="refused", detail="not valid JSON", requested_at=MOMENT))
    status = (await client.get(f"{CANCEL}/t-0-1-2")).json()
    assert (status["state"], status["type"], status["queue_name"]) == ("refused", None, None)


async def test_the_counts_are_those_of_the_moment(
    client: httpx.AsyncClient, kafka: Cluster, settings: Settings
) -> None:
    topic, ledger = topic_of(QUEUE), Ledger(kafka, settings)
    claim = Claim(
        id="k",
        kind="xfer.cancel",
        topic=topic,
        topic_id="t",
        queue=QUEUE,
        xfer_queue=QUEUE,
        reason="r",
        group="g",
        ranges={0: (10, 20), 1: (0, 5)},
        claimed_at=MOMENT,
    )
    status = a_status("k", state="claimed", queues=1, requested_at=MOMENT, claimed_at=MOMENT)
    some = Progress(
        topic_id="t", claimed_at=MOMENT, offset=14, restored=3, returned=1, reasons={"no_saved_info": 1}, at=MOMENT
    )
    await ledger.record(
        topic,
        [
            (command_key("k"), status.to_bytes()),
            (claim_key(topic, "k"), claim.to_bytes()),
            (progress_key(topic, 0, "k"), some.to_bytes()),
        ],
    )
    for shown in ((await client.get(f"{CANCEL}/k")).json(), (await client.get(CANCEL)).json()[0]):
        assert shown["state"] == "claimed"
        assert (shown["restored"], shown["returned"], shown["total"]) == (3, 1, None)
        assert (shown["offsets_done"], shown["offsets_total"]) == (4, 15)
        assert shown["returned_reasons"] == {"no_saved_info": 1}


async def test_a_transfer_has_a_path_of_its_own(client: httpx.AsyncClient) -> None:
    body = {"target": "http://own.example/", "reason": "r", "queue_names": ["x.example"]}
    answer = await client.post(START, json=body)
    path = answer.headers["location"]
    assert path == f"{START}/{answer.headers['x-command-id']}"
    found = await client.get(path)
    assert found.json() == (await client.get(path.replace(START, CANCEL))).json()
    assert (await client.patch(path, json={"state": "withdrawn"})).json() == {}
    problem_of(await client.get(f"{START}/nope"), 404, "unknown-command")


@pytest.mark.parametrize("id", ["nope", "x" * 3000, "a%20b", "%ff", "a%2Fb", "..%2f"])
async def test_an_unknown_id(client: httpx.AsyncClient, id: str) -> None:
    answer = await client.get(f"{CANCEL}/{id}")
    problem = problem_of(answer, 404, "not-found" if "2" in id and "f" in id.lower()[-4:] else "unknown-command")
    assert len(problem["detail"]) < 300


async def test_a_command_is_seen_at_every_server_once_it_was_answered(
    client: httpx.AsyncClient, kafka: Cluster, settings: Settings, queue: str
) -> None:
    await kafka.create([topic_of(queue)])
    async with running(create_app(settings)) as other:
        for number in range(5):
            answer = await client.post(CANCEL, json={"queue_name": queue, "reason": str(number)})
            id = answer.headers["x-command-id"]
            assert (await other.get(f"{CANCEL}/{id}")).json()["reason"] == str(number)
            assert (await other.get(CANCEL)).json()[0]["id"] == id


async def test_the_model_is_the_whole_status() -> None:
    assert set(CommandStatus.model_fields) == set(Status.model_fields) - {"command"} == set(FIELDS)
