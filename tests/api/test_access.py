"""Who may use the API: every route, every way in, and what those see who may not."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from api.app import create_app
from api.users import user_line
from streams.domain.network import parse_network
from streams.domain.topic import topic_of
from streams.kafka.cluster import Cluster
from streams.settings.settings import Settings, load_settings
from tests.api.processes import ApiProcess, environment, xferq
from tests.api.running import CANCEL, JSON, START, problem_of, published, running, until_ready

STRANGER = "203.0.113.9"
NAME, WORD = "alice", "correct horse"
LINE = user_line(NAME, WORD)
BODY = {"queue_name": "http://a.example/.xfer.kumomta.internal", "reason": "r"}


@pytest.fixture
def guarded(tmp_path: Path) -> Settings:
    """Settings of an API without Kafka, with a user."""
    (tmp_path / "users").write_text(LINE + "\n")
    return Settings(bootstrap_servers="127.0.0.1:1", api_users_file=tmp_path / "users")


def basic(user: str = NAME, word: str = WORD) -> dict[str, str]:
    """The header of HTTP basic authentication."""
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{word}'.encode()).decode()}"}


def routes_of(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Every method and path of the app, with something in the place of parameters."""

    def within(routes: Any) -> Iterator[tuple[str, str]]:
        for route in routes:
            inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
            if inner:
                yield from within(inner)
            else:
                for method in route.methods:
                    yield method, re.sub(r"\{.*?\}", "x", route.path)

    yield from within(app.routes)


def denied(answer: httpx.Response) -> bytes:
    """The body of an answer to who may not, having seen that it is one."""
    problem_of(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == 'Basic realm="xferq", charset="UTF-8"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "x-command-id" not in answer.headers
    assert "location" not in answer.headers
    return answer.content


# ---- what strangers see


async def test_every_route_is_behind_it_but_one(guarded: Settings) -> None:
    app = create_app(guarded)
    routes = set(routes_of(app))
    documented = {(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods}
    assert {(method, path.replace("{id}", "x")) for method, path in documented} < routes
    assert {("GET", "/"), ("GET", "/docs"), ("GET", "/api-docs/openapi.json"), ("GET", "/metrics")} < routes
    seen = set()
    async with running(app, is_ready=False, address=STRANGER) as client:
        for method, path in routes - {("GET", "/livez")}:
            answer = await client.request(method, path)
            assert answer.status_code == 401, f"{method} {path}"
            if method != "HEAD":  # which has no body
                seen.add(denied(answer))
        assert (await client.get("/livez")).json() == {"status": "ok"}
        for path in (
            "/nope",
            "/livez/",
            "//livez",
            "/LIVEZ",
            "/livez/../metrics",
            "/metrics/",
            "/livez%2f..%2fmetrics",
        ):
            for method in ("GET", "PUT", "NONSENSE"):
                seen.add(denied(await client.request(method, path)))
    assert len(seen) == 1  # not a byte tells what there is


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic(word="wrong"),
        basic("nobody"),
        basic(f"{NAME}:{WORD}", ""),
        {"Authorization": "Basic"},
        {"Authorization": "Basic !"},
        {"Authorization": "Basic " + base64.b64encode(b"alice").decode()},
        {"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()},
        {"Authorization": f"Bearer {WORD}"},
        {"Authorization": basic()["Authorization"].replace("Basic", "Digest")},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Real-IP": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Host": "localhost"},
        {"Cookie": "user=alice"},
    ],
    ids=str,
)
async def test_who_is_not_let_in(guarded: Settings, headers: dict[str, str]) -> None:
    async with running(create_app(guarded), is_ready=False, address=STRANGER) as client:
        plain = denied(await client.get("/readyz"))
        assert denied(await client.post(CANCEL, json=BODY, headers=headers)) == plain
        assert denied(await client.post(CANCEL, content=b"\xff" * 100, headers=headers)) == plain


async def test_two_headers_are_one_too_many(guarded: Settings) -> None:
    async with running(create_app(guarded), is_ready=False, address=STRANGER) as client:
        pair = [("Authorization", basic(word="wrong")["Authorization"]), ("Authorization", basic()["Authorization"])]
        for headers in (pair, pair[::-1]):
            denied(await client.get("/docs", headers=headers))


async def test_without_a_file_of_users_nobody_has_a_password() -> None:
    app = create_app(Settings(bootstrap_servers="127.0.0.1:1"))
    async with running(app, is_ready=False, address=STRANGER) as client:
        denied(await client.get("/docs", headers=basic()))


# ---- who is let in


async def test_a_user_is_let_in_to_everything(guarded: Settings) -> None:
    app = create_app(guarded)
    async with running(app, is_ready=False, address=STRANGER) as client:
        for method, path in routes_of(app):
            assert (await client.request(method, path, headers=basic())).status_code not in (401, 421), path
        # Whatever name it asks by: another page has no password to send.
        assert (await client.get("/docs", headers=basic() | {"Host": "xfer.example"})).status_code == 200


@pytest.mark.parametrize(
    ("trusted", "address", "is_in"),
    [
        ("127.0.0.0/8 ::1/128", "127.0.0.1", True),
        ("127.0.0.0/8 ::1/128", "127.99.0.1", True),
        ("127.0.0.0/8 ::1/128", "::1", True),
        ("127.0.0.0/8 ::1/128", "::ffff:127.0.0.1", True),
        ("127.0.0.0/8 ::1/128", "::ffff:203.0.113.9", False),
        ("127.0.0.0/8 ::1/128", STRANGER, False),
        ("203.0.113.0/24", STRANGER, True),
        ("203.0.113.0/24", "127.0.0.1", False),
        ("2001:db8::/32", "2001:db8::9", True),
        ("2001:db8::/32", "2001:db9::9", False),
        ("", "127.0.0.1", False),
    ],
)
async def test_trusted_hosts(trusted: str, address: str, is_in: bool) -> None:
    networks = tuple(parse_network(text) for text in trusted.split())
    app = create_app(Settings(bootstrap_servers="127.0.0.1:1", api_trusted_hosts=networks))
    async with running(app, is_ready=False, address=address) as client:
        assert (await client.get("/docs")).status_code == (200 if is_in else 401)


async def test_what_a_trusted_host_presents_must_be_right(guarded: Settings) -> None:
    async with running(create_app(guarded), is_ready=False) as client:
        assert (await client.get("/docs", headers=basic())).status_code == 200
        denied(await client.get("/docs", headers=basic(word="wrong")))


async def test_behind_a_proxy_of_ours(guarded: Settings) -> None:
    proxied = guarded.model_copy(update={"api_trusted_proxies": (parse_network("127.0.0.1"),)})
    async with running(create_app(proxied), is_ready=False) as client:
        denied(await client.get("/docs"))  # on whose behalf?
        denied(await client.get("/docs", headers={"X-Forwarded-For": STRANGER}))
        denied(await client.get("/docs", headers={"X-Forwarded-For": f"127.0.0.2, {STRANGER}"}))
        assert (await client.get("/docs", headers={"X-Forwarded-For": f"{STRANGER}, 127.0.0.2"})).status_code == 200
        assert (await client.get("/docs", headers={"X-Forwarded-For": STRANGER} | basic())).status_code == 200


async def test_a_trusted_browser_is_not_a_page_that_is_open_in_it(guarded: Settings) -> None:
    named = guarded.model_copy(update={"api_names": ("xfer.example",)})
    async with running(create_app(named), is_ready=False) as client:
        for host, status in (("evil.example", 421), ("xfer.example:8000", 200), ("127.0.0.1", 200), ("10.0.0.1", 421)):
            assert (await client.get("/docs", headers={"Host": host})).status_code == status, host


async def test_the_names_are_what_a_browser_sends(guarded: Settings) -> None:
    written = load_settings(bootstrap_servers="127.0.0.1:1", api_names="Xfer.Example, [2001:DB8:0::1],2001:db8::2")
    named = guarded.model_copy(update={"api_names": written.api_names})
    async with running(create_app(named), is_ready=False) as client:
        for host in ("xfer.example:8000", "XFER.example", "[2001:db8::1]:8000", "[2001:DB8::0:1]", "[2001:db8::2]"):
            assert (await client.get("/docs", headers={"Host": host})).status_code == 200, host
        for host in ("2001:db8::1", "2001:db8::1:8000", "::1", "::1:8000", "[2001:db8::3]"):
            assert (await client.get("/docs", headers={"Host": host})).status_code == 421, host


async def test_a_file_that_changes(guarded: Settings) -> None:
    file = guarded.api_users_file
    assert file is not None
    async with running(create_app(guarded), is_ready=False, address=STRANGER) as client:
        assert (await client.get("/docs", headers=basic())).status_code == 200
        file.write_text("alice:broken\n")
        assert (await client.get("/docs", headers=basic())).status_code == 200
        file.write_text(user_line("bob", WORD) + "\n")
        denied(await client.get("/docs", headers=basic()))
        assert (await client.get("/docs", headers=basic("bob"))).status_code == 200


async def test_unprotected_means_everybody() -> None:
    app = create_app(Settings(bootstrap_servers="127.0.0.1:1"), unprotected=True)
    async with running(app, is_ready=False, address=STRANGER) as client:
        assert (await client.get("/docs", headers={"Host": "any.example"})).status_code == 200


async def test_the_document_says_how_to_get_in(guarded: Settings) -> None:
    document = create_app(guarded).openapi()
    assert document["components"]["securitySchemes"]["password"]["scheme"] == "basic"
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert ("401" in operation["responses"]) == (path != "/livez")


# ---- with Kafka: who asked, and whether anything happens


@pytest.mark.parametrize("address", [STRANGER, "127.0.0.1"])
async def test_who_asked_stands_in_the_status_the_command_and_the_log(
    settings: Settings, kafka: Cluster, queue: str, tmp_path: Path, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "users").write_text(LINE + "\n")
    await kafka.create([topic_of(queue)])
    app = create_app(settings.model_copy(update={"api_users_file": tmp_path / "users"}))
    async with running(app, is_ready=False, address=address) as client:
        await until_ready(client, headers=basic())
        body = {"queue_name": queue, "reason": "r"}
        made_up = await client.post(CANCEL, json=body | {"requested_by": "mallory"}, headers=basic())
        assert made_up.status_code == 422
        id = (await client.post(CANCEL, json=body, headers=basic())).headers["x-command-id"]
        assert (await client.get(f"{CANCEL}/{id}", headers=basic())).json()["requested_by"] == NAME
        start = {"target": "http://b.example/", "reason": "r"}
        other = (await client.post(START, json=start, headers=basic())).headers["x-command-id"]
        assert (await client.get(f"{CANCEL}/{other}", headers=basic())).json()["requested_by"] == NAME
    assert [command["requested_by"] for command in await published(kafka, settings)] == [NAME, NAME]
    assert f"command.accepted id={id} type=xfer.cancel queue='{queue}' by='{NAME}'" in caplog.text
    assert WORD not in caplog.text


async def test_a_stranger_learns_nothing_of_queues_and_moves_nothing(
    settings: Settings, kafka: Cluster, queue: str
) -> None:
    await kafka.create([topic_of(queue)])
    async with running(create_app(settings)) as friend:
        id = (await friend.post(CANCEL, json={"queue_name": queue, "reason": "r"})).headers["x-command-id"]
        assert (await friend.get(f"{CANCEL}/{id}")).json()["requested_by"] == "127.0.0.1"
    before = await published(kafka, settings)
    async with running(create_app(settings), is_ready=False, address=STRANGER) as client:
        answers = [
            await client.post(CANCEL, json={"queue_name": queue, "reason": "r"}),
            await client.post(CANCEL, json={"queue_name": "x" + queue, "reason": "r"}),
            await client.post(CANCEL, json={"queue_name": queue, "reason": "r"}, headers={"Idempotency-Key": id}),
            await client.get(f"{CANCEL}/{id}"),
            await client.get(f"{CANCEL}/unheard-of"),
            await client.get(CANCEL, params={"queue_name": queue}),
            await client.post(START, json={"target": "http://b.example/", "reason": "r"}),
        ]
    assert len({denied(answer) for answer in answers}) == 1
    assert await published(kafka, settings) == before


# ---- the process


def env_of(tmp_path: Path, **more: str) -> dict[str, str]:
    """An environment without Kafka, with a user, where not even this machine is trusted."""
    (tmp_path / "users").write_text(LINE + "\n")
    variables = {
        "XFERQ_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "XFERQ_API_USERS_FILE": str(tmp_path / "users"),
        "XFERQ_API_TRUSTED_HOSTS": "",
    }
    return environment(variables | more, tmp_path)


def test_the_command_line_says_who_it_is(tmp_path: Path) -> None:
    env = env_of(tmp_path)
    with ApiProcess(env) as server:
        env |= {"XFERQ_API_URL": server.url}
        (line,) = xferq("status", env=env, status=1).stderr.splitlines()
        assert "does not know you" in line
        assert "XFERQ_CLIENT_USER" in line
        known = env | {"XFERQ_CLIENT_USER": NAME, "XFERQ_CLIENT_PASSWORD": WORD}
        assert "Connection refused" in xferq("status", env=known, status=1).stderr  # by Kafka, then
        inside = env | {"XFERQ_API_URL": server.url.replace("//", f"//{NAME}:correct%20horse@")}
        assert "Connection refused" in xferq("status", env=inside, status=1).stderr
        wrong = env | {"XFERQ_CLIENT_USER": NAME, "XFERQ_CLIENT_PASSWORD": "hunter2"}
        assert "does not know you" in xferq("status", env=wrong, status=1).stderr
        assert "api.denied address=127.0.0.1" in "".join(server.log)
        assert "hunter2" not in "".join(server.log)


def test_a_broken_file_at_the_start(tmp_path: Path) -> None:
    env = env_of(tmp_path)
    (tmp_path / "users").write_text("alice:hunter2\n")
    (line,) = xferq("api", "--port", "0", env=env, status=2).stderr.splitlines()
    assert line.startswith(f"xferq: XFERQ_API_USERS_FILE: {tmp_path / 'users'}: line 1: ")
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("variables", "what"),
    [
        ({"XFERQ_API_USERS_FILE": ""}, "nobody but this machine"),
        ({}, "plain text"),
        ({"XFERQ_API_TRUSTED_HOSTS": "10.0.0.0/8"}, "plain text"),
    ],
)
def test_where_others_reach_it_they_need_a_way_in_that_is_safe(
    tmp_path: Path, variables: dict[str, str], what: str
) -> None:
    env = env_of(tmp_path, **variables)
    (line,) = xferq("api", "--port", "0", "--host", "0.0.0.0", env=env, status=2).stderr.splitlines()  # noqa: S104
    assert "refusing to listen on 0.0.0.0" in line
    assert what in line


@pytest.mark.parametrize(
    "variables",
    [
        {"XFERQ_API_TRUSTED_PROXIES": "10.0.0.0/8"},
        {"XFERQ_API_USERS_FILE": "", "XFERQ_API_TRUSTED_HOSTS": "10.0.0.0/8"},
    ],
)
def test_where_others_have_a_way_in_it_listens(tmp_path: Path, variables: dict[str, str]) -> None:
    with ApiProcess(env_of(tmp_path, **variables), "--host", "0.0.0.0") as server:  # noqa: S104
        assert httpx.get(f"{server.url}/livez", trust_env=False).status_code == 200
        assert httpx.post(f"{server.url}{CANCEL}", content=b"{}", headers=JSON, trust_env=False).status_code == 401


def test_these_routes_are_found_by_the_look() -> None:
    app = create_app(Settings(bootstrap_servers="127.0.0.1:1"))

    @app.get("/new/{thing}")
    async def new(thing: str) -> str:
        return thing

    assert ("GET", "/new/x") in set(routes_of(app))
    assert any(isinstance(route, APIRoute) for route in app.routes)
