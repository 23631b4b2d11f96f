"""Line breaks, escape sequences and NUL in whatever comes from outside: logs, headers and terminals stay clean.

And what is secret stays so.
"""

import ast
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from api.cli.output import json_line
from api.client import ApiClient, without_credentials
from streams.broker import EmbeddedBroker
from streams.domain.topic import topic_of
from streams.errors import Unavailable
from streams.settings.settings import Settings, load_settings
from streams.telemetry.logs import OneLine, printable
from tests.api.processes import ApiProcess, environment, xferq
from tests.api.running import CANCEL
from tests.broker.scene import wait_until
from tests.broker.world import World
from tests.outside.wire import Address, Answer, post
from tests.support.examples import examples

outside = settings.get_profile("outside")
ROOT = Path(__file__).parent.parent.parent
EVIL = "\x1b[2J\r\n\0\u2028\u202e\x9b1m\x7f"
FORGED = "\n2026-11-24 10:00:00,000 INFO command.done id=forged\r\nSet-Cookie: a=b\r\n\r\n<script>"
any_text = st.text(max_size=40) | st.sampled_from([EVIL, FORGED, "\ud800", "a\u0301", "\t"])
any_line = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from([EVIL, FORGED])


def is_clean(text: str) -> bool:
    """Whether nothing in it but line feeds is anything else than a printable character."""
    return all(char.isprintable() or char == "\n" for char in text)


# ---- logs


@given(any_text, any_text)
@settings(outside, max_examples=examples(300))
def test_a_log_record_is_one_line(message: str, argument: str) -> None:
    record = logging.LogRecord("n", logging.INFO, "p", 1, "event value=%s", (message + argument,), None)
    line = OneLine("%(asctime)s %(levelname)s %(message)s").format(record)
    assert is_clean(line)
    assert "\n" not in line
    assert line.isascii() or line.isprintable()


@given(any_text)
@settings(outside, max_examples=examples(300))
def test_a_traceback_is_taken_for_no_other_record(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        record = logging.LogRecord("n", logging.ERROR, "p", 1, "event", (), sys.exc_info())
    first, *lines = OneLine("%(asctime)s %(levelname)s %(message)s").format(record).split("\n")
    assert first.endswith("ERROR event")
    assert len(lines) >= 3
    assert all(line.startswith("  | ") and line.isprintable() for line in lines)


@given(any_text)
@settings(outside, max_examples=examples(300))
def test_what_is_shown_is_printable_and_plain_text_stays(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert text == shown or not text.isprintable()


@given(st.dictionaries(any_line, any_line | st.integers() | st.lists(any_line, max_size=3), max_size=4) | any_line)
@settings(outside, max_examples=examples(300))
def test_a_record_as_json_is_one_line_with_the_same_in_it(value: object) -> None:
    for raw in (json.dumps(value), json.dumps(value, ensure_ascii=False), json.dumps(value, indent=1)):
        line = json_line(raw.encode())
        assert line.isprintable()
        assert json.loads(line) == value


@given(st.binary(max_size=40))
@settings(outside, max_examples=examples(300))
def test_a_record_that_is_no_json_is_one_line(raw: bytes) -> None:
    assert json_line(raw).isprintable()


# ---- everything at once


@pytest.fixture(scope="module")
def world(broker: EmbeddedBroker) -> Iterator[World]:
    """A worker, and what it logs."""
    with World(broker.bootstrap_servers) as world:
        world.worker()
        yield world


@pytest.fixture(scope="module")
def env(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `xferq` needs to find the world's Kafka; it logs all that it can."""
    values = {f"XFERQ_{name.upper()}": str(value) for name, value in world.scene.values.items()}
    return environment(values | {"XFERQ_LOG_LEVEL": "DEBUG"}, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def api(env: dict[str, str]) -> Iterator[ApiProcess]:
    """The API, which logs all that it can."""
    with ApiProcess(env) as running:
        wait_until(lambda: httpx.get(f"{running.url}/readyz", trust_env=False).status_code == 200)
        yield running


def assert_clean(answer: Answer) -> None:
    """No header but those that we have, and nothing in them that a client could take for something else."""
    known = {
        *("date", "content-type", "content-length", "x-content-type-options", "connection", "x-command-id"),
        *("location", "link", "allow", "retry-after", "accept-encoding", "content-security-policy"),
    }
    names = [name for name, _ in answer.headers]
    assert set(names) <= known
    assert len(names) == len(set(names))
    for _, value in answer.headers:
        assert value.isascii()
        assert value.isprintable()


async def test_an_evil_queue_through_everything(world: World, api: ApiProcess, env: dict[str, str]) -> None:
    queue = world.queue(name=f"{EVIL}{world.scene.name}.xfer.kumomta.internal", partitions=1)
    evil, nice = queue.message(info={"queue": f"{EVIL}@{queue.domain}"}, key=EVIL.encode()), queue.message()
    queue.put(evil, nice)
    address = Address(api.url)
    body = json.dumps({"queue_name": queue.name, "reason": EVIL + FORGED}).encode()
    (answer,) = await address.exchange(post(body, more=["Connection: close", "Idempotency-Key: evil-1"]))
    assert answer.status == 200, answer
    assert_clean(answer)
    assert world.done("evil-1")["restored"] == 2
    assert len(world.read(topic_of(f"{EVIL}@{queue.domain}"))) == 1

    # The same key again with something else, and what is refused with the name in its reason.
    for other in ({"queue_name": queue.name, "reason": "x"}, {"queue_name": EVIL, "reason": FORGED}):
        raw = post(json.dumps(other).encode(), more=["Connection: close", "Idempotency-Key: evil-1"])
        (answer,) = await address.exchange(raw)
        assert answer.problem["status"] in (400, 409)
        assert_clean(answer)
    world.done(world.publish(json.dumps({"type": "xfer.cancel", "queue_name": EVIL, "reason": FORGED}).encode()))
    world.done(world.command(type="xfer.cancel", queue_name=f"{FORGED}.xfer.kumomta.internal", reason=EVIL))
    async with httpx.AsyncClient(base_url=api.url, trust_env=False) as client:
        for _ in range(2):
            assert (await client.post(CANCEL, json={"queue_name": queue.name, "reason": EVIL})).status_code == 200
        listed = await client.get(CANCEL, params={"queue_name": queue.name, "limit": 1})
        assert listed.json()[0]["queue_name"] == queue.name
        following = await client.get(listed.links["next"]["url"])
        assert following.json()[0]["queue_name"] == queue.name
        assert following.json()[0]["reason"] == EVIL

    cli = env | {"XFERQ_API_URL": api.url}
    for arguments in (
        ["status"],
        ["status", "evil-1"],
        ["status", "--json"],
        ["queues"],
        ["queues", "--json"],
        ["log"],
    ):
        assert is_clean(xferq(*arguments, env=cli).stdout), arguments
    lines = xferq("log", "--json", env=cli).stdout.splitlines()
    assert all(line.isprintable() for line in lines)
    assert json.loads(lines[0])["type"] == "AdminRebind"
    refused = xferq("cancel", EVIL.replace("\0", ""), "--reason", "r", env=cli, status=1)
    assert len(refused.stderr.splitlines()) == 1
    assert is_clean(refused.stderr)

    log = "".join(api.log) + world.scene._workers[0].log
    assert is_clean(log)
    assert not re.search("^2026-11-24 10:00:00", log, re.MULTILINE)
    assert "id=forged" not in re.sub(r"\\n2026-11-24 10:00:00,000 INFO command.done id=forged", "", log)


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        ("/%0d%0aSet-Cookie:%20a=b", {404}),
        ("/docs%00", {404}),
        ("/docs%0a", {404}),  # Starlette's own paths end in $, which stands before a last line feed, too
        (f"{CANCEL}%0a", {404}),
        ("/livez%0A", {404}),
        ("//evil.example/%2e%2e", {404}),
        ("/%2e%2e/%2e%2e/etc/passwd", {404}),
        ("/docs/../../etc/passwd", {404}),
        ("http://evil.example/", {421}),
        (f"{CANCEL}/%0d%0aX:%20y", {404}),
        (f"{CANCEL}/%2e%2e%2fv1", {404}),
        (f"{CANCEL}/..%00", {404}),
        (f"{CANCEL}?before=%0d%0aX:%20y&limit=1", {404}),
        (f"{CANCEL}?queue_name=%0d%0aX:%20y%00%1b[2J&limit=1", {200}),
        (f"{CANCEL}?limit=%0d%0a1", {200, 422}),
        (f"{CANCEL}?limit=\u0661".encode().decode("latin-1"), {400}),
        ("*", {404}),
    ],
)
async def test_paths_and_queries_do_not_get_into_headers(api: ApiProcess, path: str, statuses: set[int]) -> None:
    raw = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode("latin-1")
    (answer,) = await Address(api.url).exchange(raw)
    assert answer.status in statuses, answer
    assert_clean(answer)
    assert "evil" not in "".join(value for _, value in answer.headers)
    (other,) = await Address(api.url).exchange(raw.replace(b"GET", b"EVIL\tX", 1))
    assert other.status == 400
    (other,) = await Address(api.url).exchange(raw.replace(b"GET", b"PATCH", 1))
    assert other.status in (400, 404, 405, 421)
    assert_clean(other)


# ---- secrets

SECRET = "hunter2-5f0c"  # noqa: S105 - of nothing


async def test_what_a_client_sends_by_way_of_credentials_is_kept_nowhere(world: World, api: ApiProcess) -> None:
    """Where no file of users is, there is nothing that they would be compared with: they are nobody's business."""
    queue = world.queue()
    more = [f"Authorization: Bearer {SECRET}", f"Cookie: s={SECRET}", f"X-Api-Key: {SECRET}", "Connection: close"]
    answers = []
    for body in (json.dumps({"queue_name": queue.name, "reason": "r"}).encode(), b"{}", b"{", b"\xff"):
        answers += await Address(api.url).exchange(post(body, more=more))
    answers += await Address(api.url).exchange(post(b"{}", path="/nope", more=more))
    answers += await Address(api.url).exchange(post(b"{}", more=[*more, "broken\0: x"]))
    assert [answer.status for answer in answers] == [200, 422, 400, 400, 404, 400]
    everything = [str(answers), "".join(api.log), world.scene._workers[0].log, str(world.scene.ledger(0.1).values)]
    async with httpx.AsyncClient(base_url=api.url, trust_env=False) as client:
        everything += [(await client.get(path)).text for path in (CANCEL, "/metrics", "/docs", "/readyz")]
    assert not [text for text in everything if SECRET in text]


NOT_SECRET = {"kafka_sasl_mechanism", "kafka_password_file", "kafka_key_password_file"}
"""How to log in, and where what is secret comes from."""


def test_a_setting_that_is_secret_does_not_show() -> None:
    """It is a SecretStr, which neither repr nor an error message shows."""
    secret = set()
    for name, field in Settings.model_fields.items():
        if re.search("password|secret|token|credential|sasl|private|passphrase", name) and name not in NOT_SECRET:
            assert field.annotation in (SecretStr, SecretStr | None), name
            secret.add(name)
    passwords = {"kafka_password", "kafka_key_password", "client_password", "api_tls_key_password"}
    assert secret == passwords | {"kafka_token_command"}  # a command may well hold a client's secret
    shown = Settings(**dict.fromkeys(secret, SECRET), client_user="u", api_tls_cert="c", api_tls_key="k")  # type: ignore
    assert SECRET not in repr(shown) + str(shown) + shown.model_dump_json()


@pytest.mark.parametrize("package", ["api", "streams"])
def test_no_secret_is_compared_but_in_constant_time(package: str) -> None:
    """argon2 compares passwords. What else will be compared needs hmac.compare_digest, never == or in."""
    count = 0
    for module in sorted((ROOT / package).rglob("*.py")):
        for found in compared(module.read_text(encoding="utf-8")):
            count += 1
            assert not _SECRET.search(found), f"{module}: {found}"
    assert count > 50


def test_that_look_sees_such_a_comparison() -> None:
    (found,) = compared("if request.headers['Authorization'] == given: pass")
    assert _SECRET.search(found)


_SECRET = re.compile("(?i)password|secret|token|credential|signature|authorization(?!_?failed)|api_?key|cookie")


def compared(source: str) -> list[str]:
    """The comparisons of values in a module: whether something is there at all (`is None`) tells nothing of it."""
    found = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Compare))
    return [ast.unparse(node) for node in found if not all(isinstance(op, ast.Is | ast.IsNot) for op in node.ops)]


@pytest.mark.parametrize(
    "url",
    [f"me:{SECRET}@h:80", f"http//me:{SECRET}@h:80", f"http://me:{SECRET}/x@h:80", f"http://me:x/{SECRET}@h:80/"],
)
def test_a_password_in_what_is_no_url_is_not_shown(url: str) -> None:
    shown = without_credentials(url)
    assert shown.removeprefix("http://").rstrip("/") == "h:80"
    with pytest.raises(Unavailable) as caught:
        ApiClient(url).status("x")
    assert SECRET not in str(caught.value)


def test_a_password_in_the_url_of_the_api_is_not_shown(tmp_path: Path) -> None:
    for url in (f"http://me:{SECRET}@127.0.0.1:1", f"http://me:{SECRET}@127.0.0.1:x", f"http://a@me:{SECRET}@[::1"):
        result = xferq("status", env=environment({"XFERQ_API_URL": url}, tmp_path), status=1)
        assert SECRET not in result.stdout + result.stderr
        assert "XFERQ_API_URL" in result.stderr
    assert without_credentials("http://me:x@host:80/p@th") == "http://host:80/p@th"
    assert without_credentials("http://host:80/") == "http://host:80/"
    assert without_credentials("http://host:80/p@th") == "http://host:80/p@th"
    assert load_settings(api_url="http://h").api_url == "http://h"
