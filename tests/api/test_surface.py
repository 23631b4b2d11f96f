"""What the API has and what it says of itself: methods, paths, OpenAPI, documentation, metrics."""

import re
from collections.abc import AsyncIterator, Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import jsonschema
import pytest
from openapi_spec_validator import validate

from api.app import create_app
from api.commands import ENDPOINTS
from api.problem import KINDS
from streams.settings.settings import Settings
from tests.api.running import CANCEL, START, problem_of, running


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API without Kafka: nothing here needs one."""
    async with running(create_app(Settings(bootstrap_servers="127.0.0.1:1")), is_ready=False) as client:
        yield client


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    """The OpenAPI document."""
    answer = await client.get("/api-docs/openapi.json")
    assert answer.status_code == 200
    document: dict[str, Any] = answer.json()
    return document


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", CANCEL, "GET, HEAD, POST"),
        ("DELETE", CANCEL, "GET, HEAD, POST"),
        ("OPTIONS", CANCEL, "GET, HEAD, POST"),
        ("NONSENSE", CANCEL, "GET, HEAD, POST"),
        ("GET", START, "POST"),
        ("POST", f"{CANCEL}/id", "GET, HEAD, PATCH"),
        ("POST", "/livez", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
    ],
)
async def test_another_method(client: httpx.AsyncClient, method: str, path: str, allowed: str) -> None:
    answer = await client.request(method, path)
    assert path in problem_of(answer, 405, "method-not-allowed")["detail"]
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/metrics", "/docs", "/", "/api-docs/openapi.json", "/nope", CANCEL]
)
async def test_head_is_answered_as_get_is(client: httpx.AsyncClient, path: str) -> None:
    got, headed = await client.get(path), await client.head(path)
    assert (headed.status_code, headed.headers.get("content-type")) == (
        got.status_code,
        got.headers.get("content-type"),
    )
    assert headed.content == b""


async def test_head_where_there_is_no_get(client: httpx.AsyncClient) -> None:
    answer = await client.head(START)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html, text/plain;version=abc", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text; version=x, */*", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
async def test_metrics_are_in_the_format_that_is_asked_for(
    client: httpx.AsyncClient, accept: str | None, content_type: str
) -> None:
    answer = await client.get("/metrics", headers={} if accept is None else {"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(content_type)
    assert answer.text.endswith("# EOF\n") == ("openmetrics" in content_type)


@pytest.mark.parametrize("path", ["/nope", "/api/admin/xfer/cancel/v2", CANCEL + "/", CANCEL + "/a/b", "/docs/"])
async def test_another_path(client: httpx.AsyncClient, path: str) -> None:
    problem_of(await client.get(path), 404, "not-found")


async def test_a_defect_shows_nothing_of_itself(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("api.endpoints.command_id", broken)
    answer = await client.post(CANCEL, json={"queue_name": "q.xfer.kumomta.internal", "reason": "r"})
    problem_of(answer, 500, "internal")
    assert "secret" not in answer.text


async def test_the_openapi_document_is_valid(document: dict[str, Any]) -> None:
    validate(document)
    of_commands = {CANCEL, START, *(endpoint.path for endpoint in ENDPOINTS.values())}
    assert set(document["paths"]) == {
        *of_commands,
        *(f"{path}/{{id}}" for path in of_commands),
        "/livez",
        "/readyz",
        "/metrics",
    }
    assert "HTTPValidationError" not in document["components"]["schemas"]


async def test_every_example_is_valid(document: dict[str, Any]) -> None:
    count = 0
    for schema, example in _examples(document):
        jsonschema.Draft202012Validator(schema | {"components": document["components"]}).validate(example)
        count += 1
    assert count > 25
    assert {"XferCancelRequest", "XferRequest"} <= document["components"]["schemas"].keys()
    for model in (endpoint.body for endpoint in ENDPOINTS.values()):
        for example in document["components"]["schemas"][model.__name__]["examples"]:
            model.model_validate(example)


def _examples(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    for schema in document["components"]["schemas"].values():
        for example in schema.get("examples", []):
            yield schema, example
    for methods in document["paths"].values():
        for operation in methods.values():
            for response in operation["responses"].values():
                for content in response.get("content", {}).values():
                    for example in content.get("examples", {}).values():
                        yield content["schema"], example["value"]


async def test_every_answer_is_documented(document: dict[str, Any]) -> None:
    cancel = document["paths"][CANCEL]["post"]
    assert set(cancel["responses"]) == {"200", "400", "401", "404", "408", "409", "413", "415", "421", "422", "503"}
    assert {"X-Command-Id", "Location"} <= cancel["responses"]["200"]["headers"].keys()
    assert [parameter["name"].lower() for parameter in cancel["parameters"]] == ["idempotency-key"]
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert operation["description"]


async def test_the_documentation_page(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    answer = await client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = _Page()
    page.feed(answer.text)
    page.close()
    assert page.open == []
    assert page.elsewhere == []  # it shows on a machine without a network, too
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= page.ids
    assert page.ids >= KINDS.keys()
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"{method.upper()} {path}" in page.text
    for model in ("XferCancelRequest", "XferRequest", "CommandStatus"):
        for field in document["components"]["schemas"][model]["properties"]:
            assert field in page.text


async def test_the_home_page_leads_to_the_documentation(client: httpx.AsyncClient) -> None:
    assert (await client.get("/", follow_redirects=True)).url.path == "/docs"


class _Page(HTMLParser):
    """What a page links to, what it defines, whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.elsewhere: list[str] = []
        self.ids: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag == "script" or "src" in found or "//" in (found.get("href") or ""):
            self.elsewhere.append(tag)
        self.links += [value for name, value in attributes if name == "href" and value]
        self.ids |= {value for name, value in attributes if name == "id" and value}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_metrics_count_requests_by_route(client: httpx.AsyncClient) -> None:
    async def count(route: str, status: int) -> float:
        text = (await client.get("/metrics")).text
        found = re.search(rf'^xferq_http_requests_total{{route="{route}",status="{status}"}} (\S+)$', text, re.M)
        return float(found[1]) if found else 0.0

    one = CANCEL + "/{id}"
    for route, path, status in (
        (re.escape(one), f"{CANCEL}/unheard-of", 503),
        (re.escape(CANCEL), CANCEL, 503),
        ("unmatched", "/unheard/path", 404),
        ("/livez", "/livez", 200),
    ):
        before = await count(route, status)
        await client.get(path)
        assert await count(route, status) == before + 1
    assert "unheard" not in (await client.get("/metrics")).text


async def test_answers_are_taken_for_what_they_say_they_are(client: httpx.AsyncClient) -> None:
    for path in ("/livez", "/docs", "/nope"):
        assert (await client.get(path)).headers["x-content-type-options"] == "nosniff"
