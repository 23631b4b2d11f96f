"""POST of commands: what is taken is durable and published once, what is not is explained."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest

from api.app import create_app
from streams.commands.admission import UNASKED
from streams.domain.command import CancelCommand
from streams.domain.status import Status
from streams.domain.topic import topic_of
from streams.kafka.cluster import Cluster
from streams.ledger.keys import command_key
from streams.ledger.ledger import Ledger
from streams.settings.settings import Settings
from tests.api.conftest import XFER_SUFFIX
from tests.api.running import CANCEL, JSON, MAX_BODY_BYTES, START, problem_of, published, running

Published = list[dict[str, Any]]


@pytest.fixture
async def existing(kafka: Cluster, queue: str) -> str:
    """An xfer queue that exists."""
    assert await kafka.create([topic_of(queue)]) == {}
    return queue


async def test_a_cancel_is_written_down_and_published(
    client: httpx.AsyncClient, kafka: Cluster, settings: Settings, existing: str
) -> None:
    answer = await client.post(CANCEL, json={"queue_name": existing, "reason": "scaling down"})

    assert (answer.status_code, answer.json()) == (200, {})
    id = answer.headers["x-command-id"]
    (command,) = await published(kafka, settings)
    assert command["requested_at"].endswith("Z")
    assert command == {
        "key": existing,
        "type": "xfer.cancel",
        "id": id,
        "queue_name": existing,
        "reason": "scaling down",
        "requested_at": command["requested_at"],
        "requested_by": "127.0.0.1",
    }
    status = (await client.get(answer.headers["location"])).json()
    assert (status["id"], status["state"], status["queue_name"]) == (id, "accepted", existing)


async def test_many_at_once_are_answered_each_for_itself(
    client: httpx.AsyncClient, kafka: Cluster, settings: Settings, existing: str
) -> None:
    unknown = "http://nowhere.example/.xfer.kumomta.internal"
    answers = await asyncio.gather(
        *(client.post(CANCEL, json={"queue_name": name, "reason": "r"}) for name in (existing, unknown) * 20)
    )

    assert [answer.status_code for answer in answers] == [200, 404] * 20
    for answer in answers[1::2]:
        assert problem_of(answer, 404, "unknown-queue")["detail"] == f"{unknown} is not a current scheduled queue"
    commands = await published(kafka, settings)
    assert sorted(command["id"] for command in commands) == sorted(a.headers["x-command-id"] for a in answers[::2])
    assert {command["queue_name"] for command in commands} == {existing}


async def test_a_transfer_names_its_normalised_target(
    client: httpx.AsyncClient, kafka: Cluster, settings: Settings
) -> None:
    body = {"target": "HTTP://Mx2.Example:80", "reason": "r", "tenant": "t", "queue_names": ["a", "b"]}
    answer = await client.post(START, json=body)

    assert (answer.status_code, answer.json()) == (200, {})
    (command,) = await published(kafka, settings)
    del command["requested_at"], command["requested_by"]
    assert command == {
        "key": "http://mx2.example/.xfer.kumomta.internal",
        "type": "xfer.start",
        "id": answer.headers["x-command-id"],
        "target": "http://mx2.example/",
        "reason": "r",
        "tenant": "t",
        "queue_names": ["a", "b"],
    }


@pytest.mark.parametrize("more", [{"x_note": 1}, {"x_": [{"a": None}]}, {"tennant": None, "tenant": None}])
async def test_what_is_a_service_s_own_or_null_is_left_alone(
    client: httpx.AsyncClient, kafka: Cluster, settings: Settings, existing: str, more: dict[str, Any]
) -> None:
    answer = await client.post(CANCEL, json={"queue_name": existing, "reason": "r"} | more)
    assert answer.status_code == 200
    (command,) = await published(kafka, settings)
    assert set(command) == {"key", "type", "id", "queue_name", "reason", "requested_at", "requested_by"}


async def test_a_transfer_as_kcli_sends_it(client: httpx.AsyncClient, kafka: Cluster, settings: Settings) -> None:
    nothing = dict.fromkeys(("campaign", "domain", "routing_domain", "tenant"))
    answer = await client.post(START, json=nothing | {"reason": "r", "target": "http://mx2.example/"})
    assert answer.status_code == 200
    (command,) = await published(kafka, settings)
    assert not {*nothing, "everything", "queue_names"} & command.keys()


async def test_who_wants_kumomta_s_laxness_has_it(settings: Settings, kafka: Cluster, existing: str) -> None:
    lax = settings.model_copy(update={"api_unknown_fields": "ignore"})
    async with running(create_app(lax)) as client:
        body = {"queue_name": existing, "reason": "r", "id": "x y", "more": 1}
        assert (await client.post(f"{CANCEL}?dry_run=true", json=body)).status_code == 200
        assert (await client.get(f"{CANCEL}?page=2")).status_code == 200
        twice = orjson.dumps(body)[:-1] + b',"reason":"s"}'
        problem_of(await client.post(CANCEL, content=twice, headers=JSON), 422, "invalid-request")
        problem_of(await client.get(f"{CANCEL}?limit=2&limit=3"), 422, "invalid-request")
    (command,) = await published(kafka, settings)
    assert (command["queue_name"], command["reason"]) == (existing, "r")
    assert "more" not in command


@pytest.fixture
async def refusing(client: httpx.AsyncClient, kafka: Cluster, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose requests must all be without effect."""
    yield client
    assert await published(kafka, settings) == []
    assert (await client.get(CANCEL)).json() == []


async def test_a_queue_without_the_suffix(refusing: httpx.AsyncClient) -> None:
    answer = await refusing.post(CANCEL, json={"queue_name": "example.com", "reason": "r"})
    assert problem_of(answer, 400, "not-an-xfer-queue")["detail"] == "example.com is not an xfer queue"


async def test_a_queue_that_does_not_exist(refusing: httpx.AsyncClient, queue: str) -> None:
    answer = await refusing.post(CANCEL, json={"queue_name": queue, "reason": "r"})
    assert problem_of(answer, 404, "unknown-queue")["detail"] == f"{queue} is not a current scheduled queue"


async def test_a_target_is_no_queue_but_its_queue_is_probably_meant(
    refusing: httpx.AsyncClient, existing: str, queue: str
) -> None:
    target = existing.removesuffix(XFER_SUFFIX)
    for typed in (target, target.removesuffix("/"), target.removeprefix("http://"), target.upper()):
        answer = await refusing.post(CANCEL, json={"queue_name": typed, "reason": "r"})
        problem = problem_of(answer, 400, "not-an-xfer-queue")
        assert (problem["detail"], problem["did_you_mean"]) == (f"{typed} is not an xfer queue", existing)


async def test_a_near_miss(refusing: httpx.AsyncClient, existing: str) -> None:
    for typed in (
        existing.replace("example", "exmaple"),
        existing.replace("/" + XFER_SUFFIX, XFER_SUFFIX),
        existing.replace("http:", "https:"),
        existing.removeprefix("http://"),
        existing.replace("http:", "HTTP:"),
    ):
        answer = await refusing.post(CANCEL, json={"queue_name": typed, "reason": "r"})
        problem = problem_of(answer, 404, "unknown-queue")
        assert problem["detail"] == f"{typed} is not a current scheduled queue"
        assert problem["did_you_mean"] == existing


async def test_what_is_like_nothing_was_not_meant(refusing: httpx.AsyncClient, existing: str) -> None:
    for typed in ("mytenant@other.test", f"https://x.y:25/zzz/{XFER_SUFFIX}", "\u00fc" * 500):
        answer = await refusing.post(CANCEL, json={"queue_name": typed, "reason": "r"})
        assert answer.status_code in (400, 404)
        assert "did_you_mean" not in answer.json()


async def test_long_names_are_shortened(refusing: httpx.AsyncClient) -> None:
    answer = await refusing.post(CANCEL, json={"queue_name": "x" * 1024, "reason": "r"})
    assert problem_of(answer, 400, "not-an-xfer-queue")["detail"] == "x" * 200 + "... is not an xfer queue"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"queue_name": "x",}',
        b'{"queue_name": NaN}',
        b'{"reason": "\xff"}',
        '{"a": "b"}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"reason": "\\ud800"}',
        b"{}{}",
    ],
)
@pytest.mark.parametrize("path", [CANCEL, START])
async def test_malformed_json(refusing: httpx.AsyncClient, path: str, body: bytes) -> None:
    problem_of(await refusing.post(path, content=body, headers=JSON), 400, "malformed-body")


TOO_LONG = "\u00fc" * 512 + "x"
FIELDS: list[tuple[str, object, list[str]]] = [
    (CANCEL, {}, ["queue_name", "reason"]),
    (CANCEL, {"queue_name": "q"}, ["reason"]),
    (CANCEL, {"queue_name": 1, "reason": None}, ["queue_name", "reason"]),
    (CANCEL, {"queue_name": "", "reason": ""}, ["queue_name", "reason"]),
    (CANCEL, {"queue_name": TOO_LONG, "reason": TOO_LONG}, ["queue_name", "reason"]),
    (CANCEL, {"queue_name": "q", "reason": ["r"]}, ["reason"]),
    (CANCEL, [], [""]),
    (CANCEL, None, [""]),
    (CANCEL, "queue", [""]),
    (START, {}, ["target", "reason"]),
    (START, {"target": "example.com", "reason": "r"}, ["target"]),
    (START, {"target": "ftp://example.com", "reason": "r"}, ["target"]),
    (START, {"target": "http://x/" + "y" * 2000, "reason": "r"}, ["target"]),
    (START, {"target": "http://x", "reason": "r", "tenant": 5, "domain": ""}, ["tenant", "domain"]),
    (START, {"target": "http://x", "reason": "r", "queue_names": "q"}, ["queue_names"]),
    (START, {"target": "http://x", "reason": "r", "queue_names": ["q", ""]}, ["queue_names[1]"]),
    (START, {"target": "http://x", "reason": "r", "queue_names": ["q"] * 10_001}, ["queue_names"]),
    (START, {"target": "http://x", "reason": "r", "queue_names": []}, ["queue_names"]),
    (START, {"target": "http://x", "reason": "r", "tennant": "t"}, ["tennant"]),
    (START, {"target": "http://x", "reason": "r", "tenant": "t", "everything": True}, ["everything"]),
    (START, {"target": "http://x", "reason": "r", "everything": False}, ["everything"]),
    (START, {"target": "http://x", "reason": "r", "everything": "true"}, ["everything"]),
    (CANCEL, {"queue_name": "http://x/.xfer.kumomta.internal", "reason": "r", "dry_run": True}, ["dry_run"]),
    (CANCEL, {"queue_nam": "q", "reason": "r"}, ["queue_nam", "queue_name"]),
    (CANCEL, {"queue_name": "q", "reason": "r", "id": "k"}, ["id"]),
    (CANCEL, dict.fromkeys(map(str, range(1000)), 1) | {"reason": "r"}, [*map(str, range(10)), "queue_name"]),
]


@pytest.mark.parametrize(("path", "body", "fields"), FIELDS, ids=lambda value: str(value)[:40])
async def test_fields_that_are_not_valid_are_named(
    refusing: httpx.AsyncClient, path: str, body: object, fields: list[str]
) -> None:
    answer = await refusing.post(path, content=orjson.dumps(body), headers=JSON)
    problem = problem_of(answer, 422, "invalid-request")
    assert [error["field"] for error in problem["errors"]] == fields
    assert {error["location"] for error in problem["errors"]} == {"body"}
    assert all(error["detail"] for error in problem["errors"])
    assert len(problem["detail"]) < 1000


async def test_a_field_that_is_not_known_is_named_with_the_one_that_was_meant(refusing: httpx.AsyncClient) -> None:
    answer = await refusing.post(START, json={"target": "http://x", "reason": "r", "tennant": "t"})
    problem = problem_of(answer, 422, "invalid-request")
    assert problem["detail"] == "tennant is not a known field; tenant?"
    assert problem["errors"] == [{"location": "body", "field": "tennant", "detail": problem["detail"]}]


@pytest.mark.parametrize(
    ("method", "path", "query", "field", "detail"),
    [
        ("GET", CANCEL, "limitt=1", "limitt", "limitt is not a known parameter; limit?"),
        ("GET", CANCEL, "state=done", "state", "state is not a known parameter; known are limit, before, queue_name"),
        ("GET", CANCEL, "limit=1&limit=2", "limit", "limit is there twice"),
        ("GET", f"{CANCEL}/k", "wait", "wait", "wait is not a known parameter; there are none"),
        ("POST", START, "dry_run=true", "dry_run", "dry_run is not a known parameter; there are none"),
        ("POST", CANCEL, "dry_run=true", "dry_run", "dry_run is not a known parameter; there are none"),
        ("PATCH", f"{CANCEL}/k", "state=withdrawn", "state", "state is not a known parameter; there are none"),
    ],
)
async def test_a_query_parameter_that_is_not_known(
    refusing: httpx.AsyncClient, method: str, path: str, query: str, field: str, detail: str
) -> None:
    answer = await refusing.request(method, f"{path}?{query}", json={"target": "http://x", "reason": "r"})
    problem = problem_of(answer, 422, "invalid-request")
    assert problem["errors"] == [{"location": "query", "field": field, "detail": detail}]
    assert problem["detail"] == detail


@pytest.mark.parametrize(
    "path", [f"{CANCEL}?x_trace=1&x_trace=2", "/livez?t=1", "/readyz?t=1", "/metrics?name=a&name=b"]
)
async def test_other_parameters_are_left_alone(refusing: httpx.AsyncClient, path: str) -> None:
    assert (await refusing.get(path)).status_code == 200


@pytest.mark.parametrize("path", [CANCEL, "/livez", "/readyz", "/metrics"])
async def test_a_get_as_kcli_sends_it(refusing: httpx.AsyncClient, path: str) -> None:
    assert (await refusing.request("GET", path, content=b"null", headers=JSON)).status_code == 200


@pytest.mark.parametrize("name", ["queue_name", "reason", "x_note"])
async def test_a_field_twice(refusing: httpx.AsyncClient, queue: str, name: str) -> None:
    body = orjson.dumps({"queue_name": queue, "reason": "r", "x_note": 1})[:-1] + f',"{name}":"again"}}'.encode()
    problem = problem_of(await refusing.post(CANCEL, content=body, headers=JSON), 422, "invalid-request")
    assert problem["errors"] == [{"location": "body", "field": name, "detail": f"{name} is there twice"}]


async def test_everything_where_it_has_to_be_asked_for(settings: Settings, kafka: Cluster) -> None:
    strict = settings.model_copy(update={"require_everything": True})
    async with running(create_app(strict)) as client:
        body = {"target": "http://x", "reason": "r"}
        for wrong in (body, body | {"tenant": None}):
            (error,) = problem_of(await client.post(START, json=wrong), 422, "invalid-request")["errors"]
            assert (error["field"], error["detail"]) == ("everything", UNASKED)
        assert await published(kafka, settings) == []
        for right in (body | {"everything": True}, body | {"queue_names": ["q"]}):
            assert (await client.post(START, json=right)).status_code == 200
    assert [command.get("everything") for command in await published(kafka, settings)] == [True, None]


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "json",
        "text/json",
    ],
)
async def test_another_content_type(refusing: httpx.AsyncClient, queue: str, content_type: str | None) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    body = orjson.dumps({"queue_name": queue, "reason": "r"})
    problem_of(await refusing.post(CANCEL, content=body, headers=headers), 415, "unsupported-media-type")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"'])
async def test_the_content_type_may_name_utf8(client: httpx.AsyncClient, existing: str, content_type: str) -> None:
    body = orjson.dumps({"queue_name": existing, "reason": "r"})
    answer = await client.post(CANCEL, content=body, headers={"Content-Type": content_type})
    assert answer.status_code == 200


def _padded(queue: str, size: int) -> bytes:
    body = json.dumps({"queue_name": queue, "reason": "r"}).encode()
    return body + b" " * (size - len(body))


async def _in_chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 100_000):
        yield body[start : start + 100_000]


async def test_the_largest_body(client: httpx.AsyncClient, existing: str) -> None:
    body = _padded(existing, MAX_BODY_BYTES)
    assert (await client.post(CANCEL, content=body, headers=JSON)).status_code == 200
    assert (await client.post(CANCEL, content=_in_chunks(body), headers=JSON)).status_code == 200
    packed = gzip.compress(body[:-100]) + gzip.compress(body[-100:])
    answer = await client.post(CANCEL, content=packed, headers={**JSON, "Content-Encoding": "gzip"})
    assert answer.status_code == 200


async def test_a_larger_body(refusing: httpx.AsyncClient, queue: str) -> None:
    body = _padded(queue, MAX_BODY_BYTES + 1)
    problem_of(await refusing.post(CANCEL, content=body, headers=JSON), 413, "too-large")
    problem_of(await refusing.post(CANCEL, content=_in_chunks(body), headers=JSON), 413, "too-large")
    for packed in (gzip.compress(body), gzip.compress(body[:10]) + gzip.compress(body[10:])):
        answer = await refusing.post(CANCEL, content=packed, headers={**JSON, "Content-Encoding": "gzip"})
        problem_of(answer, 413, "too-large")


@pytest.mark.parametrize(
    "broken",
    [b"not gzip", gzip.compress(b"{}")[:-1], gzip.compress(b"{}") + b"rest", b""],
    ids=["no gzip at all", "cut off", "something behind it", "nothing"],
)
async def test_a_body_that_is_not_gzip(refusing: httpx.AsyncClient, broken: bytes) -> None:
    answer = await refusing.post(CANCEL, content=broken, headers={**JSON, "Content-Encoding": "gzip"})
    problem_of(answer, 400, "malformed-body")


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd"])
async def test_another_encoding(refusing: httpx.AsyncClient, encoding: str) -> None:
    answer = await refusing.post(CANCEL, content=b"{}", headers={**JSON, "Content-Encoding": encoding})
    problem_of(answer, 415, "unsupported-encoding")
    assert answer.headers["accept-encoding"] == "gzip, identity"


async def test_the_same_key_again_is_the_same_command(
    client: httpx.AsyncClient, kafka: Cluster, settings: Settings, existing: str
) -> None:
    headers = {"Idempotency-Key": "deploy-42"}
    body = {"queue_name": existing, "reason": "r"}
    answers = await asyncio.gather(*(client.post(CANCEL, json=body, headers=headers) for _ in range(5)))

    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {})] * 5
    assert {answer.headers["x-command-id"] for answer in answers} == {"deploy-42"}
    # Nobody has carried it out, so it may have got lost, so it is published again: the worker takes it once.
    assert {command["id"] for command in await published(kafka, settings)} == {"deploy-42"}
    assert [status["id"] for status in (await client.get(CANCEL)).json()] == ["deploy-42"]


async def test_the_same_key_after_the_command_was_taken_up(
    client: httpx.AsyncClient, kafka: Cluster, settings: Settings, existing: str
) -> None:
    headers = {"Idempotency-Key": "k"}
    body = {"queue_name": existing, "reason": "r"}
    assert (await client.post(CANCEL, json=body, headers=headers)).status_code == 200
    command = CancelCommand(id="k", **body)
    taken_up = Status.of(command, state="done", requested_at="2026-11-24T10:00:00Z")
    record = (command_key("k").encode(), taken_up.to_bytes())
    partition = Ledger(kafka, settings).partition_of(topic_of(existing))
    await kafka.publish(settings.ledger_topic, [record], partition=partition)

    assert (await client.post(CANCEL, json=body, headers=headers)).status_code == 200
    assert len(await published(kafka, settings)) == 1
    assert (await client.get(f"{CANCEL}/k")).json()["state"] == "done"


async def test_a_command_that_was_written_down_but_not_published(
    client: httpx.AsyncClient, kafka: Cluster, settings: Settings, existing: str
) -> None:
    # What a server leaves that dies between the two.
    body = {"queue_name": existing, "reason": "r"}
    accepted = Status.of(CancelCommand(id="k", **body), state="accepted", requested_at="2026-11-24T10:00:00Z")
    await Ledger(kafka, settings).record_status(topic_of(existing), accepted)

    assert (await client.post(CANCEL, json=body, headers={"Idempotency-Key": "k"})).status_code == 200
    assert [command["id"] for command in await published(kafka, settings)] == ["k"]
    assert (await client.get(f"{CANCEL}/k")).json()["requested_at"] == "2026-11-24T10:00:00Z"


async def test_the_same_key_at_another_server(
    client: httpx.AsyncClient, kafka: Cluster, settings: Settings, existing: str
) -> None:
    async with running(create_app(settings)) as other:
        headers = {"Idempotency-Key": "k"}
        first = await client.post(CANCEL, json={"queue_name": existing, "reason": "r"}, headers=headers)
        second = await other.post(CANCEL, json={"queue_name": existing, "reason": "another"}, headers=headers)
        assert first.status_code == 200
        problem_of(second, 409, "id-conflict")
        assert (await other.get(f"{CANCEL}/k")).json()["reason"] == "r"
    assert [command["reason"] for command in await published(kafka, settings)] == ["r"]


async def test_the_same_key_with_other_content(
    client: httpx.AsyncClient, kafka: Cluster, settings: Settings, existing: str
) -> None:
    headers = {"Idempotency-Key": "k"}
    assert (await client.post(CANCEL, json={"queue_name": existing, "reason": "r"}, headers=headers)).status_code == 200
    for path, body in (
        (CANCEL, {"queue_name": existing, "reason": "s"}),
        (START, {"target": existing.removesuffix(".xfer.kumomta.internal"), "reason": "r"}),
    ):
        problem_of(await client.post(path, json=body, headers=headers), 409, "id-conflict")
    assert len(await published(kafka, settings)) == 1


async def test_a_key_in_quotes_is_the_same_key(
    client: httpx.AsyncClient, kafka: Cluster, settings: Settings, existing: str
) -> None:
    body = {"queue_name": existing, "reason": "r"}
    for key in ('"k"', "k", '"k"'):
        answer = await client.post(CANCEL, json=body, headers={"Idempotency-Key": key})
        assert (answer.status_code, answer.headers["x-command-id"]) == (200, "k")
        assert (await client.get(answer.headers["location"])).json()["id"] == "k"
    assert {command["id"] for command in await published(kafka, settings)} == {"k"}


@pytest.mark.parametrize(
    "key",
    ["", " ", "a b", "x" * 129, "a/b", "\u00e4", ".", "..", '".."', '"', '""', '"a', 'a"', "'a'", '"a";b=1', "a, b"],
)
async def test_a_key_that_can_not_be_an_id(refusing: httpx.AsyncClient, queue: str, key: str) -> None:
    body = {"queue_name": queue, "reason": "r"}
    answer = await refusing.post(CANCEL, json=body, headers={"Idempotency-Key": key.encode()})
    (error,) = problem_of(answer, 422, "invalid-request")["errors"]
    assert (error["location"], error["field"]) == ("header", "Idempotency-Key")


async def test_two_keys(refusing: httpx.AsyncClient, queue: str) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "a")]
    answer = await refusing.post(CANCEL, json={"queue_name": queue, "reason": "r"}, headers=headers)
    problem_of(answer, 422, "invalid-request")


async def test_the_status_is_there_before_the_command(
    settings: Settings, kafka: Cluster, existing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(create_app(settings, kafka)) as client:
        publish = kafka.publish
        written: list[str] = []

        async def watched(topic: str, *args: Any, **more: Any) -> None:
            await publish(topic, *args, **more)
            written.append(topic)

        monkeypatch.setattr(kafka, "publish", watched)
        await client.post(CANCEL, json={"queue_name": existing, "reason": "r"})
        assert written == [settings.ledger_topic, settings.commands_topic]
