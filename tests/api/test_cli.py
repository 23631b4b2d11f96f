"""The command line: help, exit statuses, errors in one line, and each command at work."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from streams.broker import EmbeddedBroker
from streams.domain.envelope import parse_envelope, queue_of_envelope
from streams.domain.status import Status
from streams.domain.topic import topic_of
from streams.kafka.cluster import Cluster
from streams.kafka.contents import StoredRecord, read_contents
from streams.ledger.ledger import Ledger
from streams.settings.settings import Settings
from tests.api.conftest import XFER_SUFFIX
from tests.api.processes import XFERQ, ApiProcess, environment, xferq
from tests.support.names import given, own_name, remove_topics
from tests.support.patience import WAIT_S, deadline, wait_until
from tests.support.warm import WarmPopen

COMMANDS = [
    *("up", "broker", "api", "worker", "health", "inject", "transfer", "cancel", "status", "queues", "log", "topics"),
    *("backup", "restore", "acls", "config", "hash-password", "demo"),
]
MBOX = b"From a\nFrom: a@x.example\nTo: u%d@example.com\nSubject: %d\n\nbody\n\n"


class World:
    """A Kafka with topics of its own, an API, and an environment in which `xferq` finds both."""

    def __init__(self, settings: Settings, env: dict[str, str], api: ApiProcess) -> None:
        self.settings = settings
        self.env = env | {"XFERQ_API_URL": api.url}

    def run(self, *arguments: str, status: int = 0, stdin: bytes = b"") -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return xferq(*arguments, env=self.env, status=status, stdin=stdin)

    def records(self, *queues: str) -> list[StoredRecord]:
        """What is in the queues."""

        async def read() -> list[StoredRecord]:
            async with Cluster(self.settings) as kafka:
                topics = {topic_of(queue): {} for queue in queues}
                found = await asyncio.to_thread(read_contents, kafka.connection, topics)
                return [record for records in found.values() for record in records]

        return asyncio.run(read())

    def create(self, *queues: str) -> None:
        """Create the topics of queues."""

        async def create() -> None:
            async with Cluster(self.settings) as kafka:
                assert await kafka.create([topic_of(queue) for queue in queues]) == {}

        asyncio.run(create())

    def record(self, id: str, **changes: Any) -> None:
        """Change a command's status, as a worker would, once the API has written it down."""
        command = self._status(id)
        status = Status.model_validate(command | {"id": id} | changes)

        async def record() -> None:
            async with Cluster(self.settings) as kafka:
                await Ledger(kafka, self.settings).record_status(topic_of(status.queue_name or id), status)

        asyncio.run(record())

    def _status(self, id: str) -> dict[str, Any]:
        end = deadline()
        while True:
            found = subprocess.run([XFERQ, "status", id, "--json"], env=self.env, capture_output=True, check=False)
            if found.returncode == 0:
                status: dict[str, Any] = json.loads(found.stdout)
                return status
            end.check()
            time.sleep(0.2)

    def publish(self, topic: str, values: Sequence[bytes]) -> None:
        """Write records."""

        async def publish() -> None:
            async with Cluster(self.settings) as kafka:
                await kafka.publish(topic, [(b"k", value) for value in values])

        asyncio.run(publish())


@pytest.fixture(scope="module")
def world(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all tests of this file: with queues of their own they don't disturb each other."""
    first = len(given)  # its queues come after it
    own = own_name()
    variables = {
        "XFERQ_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "XFERQ_COMMANDS_TOPIC": f"commands.{own}",
        "XFERQ_DRAINS_TOPIC": f"drains.{own}",
        "XFERQ_LEDGER_TOPIC": f"ledger.{own}",
        "XFERQ_LOG_TOPIC": f"log.{own}",
        "XFERQ_RESULTS_TOPIC": f"results.{own}",
        "XFERQ_COMMANDS_PARTITIONS": "2",
        "XFERQ_DRAINS_PARTITIONS": "2",
        "XFERQ_LEDGER_PARTITIONS": "2",
        "XFERQ_LOG_PARTITIONS": "2",
        "XFERQ_RESULTS_PARTITIONS": "2",
        "XFERQ_QUEUE_PARTITIONS": "2",
    }
    env = environment(variables, tmp_path_factory.mktemp("home"))
    xferq("topics", env=env)
    settings = Settings(**{name.removeprefix("XFERQ_").lower(): value for name, value in variables.items()})  # type: ignore[arg-type]
    with ApiProcess(env) as api:
        wait_until(lambda: _is_ready(api.url))
        yield World(settings, env, api)
    remove_topics(broker.bootstrap_servers, *given[first:])


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=WAIT_S).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
def alone(tmp_path: Path) -> dict[str, str]:
    """An environment without Kafka and API."""
    return environment({"XFERQ_API_URL": "http://127.0.0.1:1"}, tmp_path)


def a_queue() -> str:
    return f"http://{own_name()}.example/.xfer.kumomta.internal"


def a_domain() -> str:
    return f"{own_name()}.example"


# ---- help and errors


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_an_example(alone: dict[str, str], command: str) -> None:
    text = xferq(command, "--help", env=alone).stdout
    assert f"xferq {command}" in text.partition("Example")[2]


def test_help_lists_all_commands(alone: dict[str, str]) -> None:
    text = xferq("--help", env=alone).stdout
    assert all(f" {command} " in text for command in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["cancel"],
        ["cancel", "q"],
        ["transfer", "--reason", "r"],
        ["transfer", "--target", "http://a.example", "--reason", "r"],
        ["transfer", "--target", "http://a.example", "--reason", "r", "--everything", "--tenant", "t"],
        ["transfer", "--target", "http://a.example", "--reason", "r", "--everything", "--queue", "q"],
        ["inject", "example.com"],
        ["inject", "example.com", "/nope"],
        ["inject", "", "-"],
        ["inject", "x" * 1025, "-"],
        ["inject", "example.com", "-", "--schedule", "{"],
        ["inject", "example.com", "-", "--schedule", '{"dow": "Mon"}'],
        ["inject", "example.com", "-", "--schedule", "5"],
        ["inject", "example.com", "-", "--recipient", "Bob"],
        ["inject", "example.com", "-", "--recipient", ""],
        ["inject", "example.com", "-", "--recipient", "a@x.example, b@x.example"],
        ["inject", "example.com", "-", "--sender", "a b@x.example"],
        ["inject", "example.com", "-", "-"],
        ["inject", "example.com", "-", "/dev/stdin"],
        ["inject", "example.com", "/etc", "/etc/"],
        ["status", "--wait"],
        ["status", "--limit", "0"],
        ["topics", "--file", "/nope"],
        ["api", "--port", "x"],
        ["up", "--port", "70000"],
    ],
    ids=" ".join,
)
def test_used_wrongly(alone: dict[str, str], arguments: list[str]) -> None:
    assert xferq(*arguments, env=alone, status=2).stderr


def test_no_command(alone: dict[str, str]) -> None:
    result = subprocess.run([XFERQ], env=alone, capture_output=True, check=False)
    assert result.returncode == 2
    assert b"xferq demo" in result.stdout + result.stderr


API_COMMANDS = [
    ["status"],
    ["status", "x"],
    ["cancel", "q", "--reason", "r"],
    ["transfer", "--target", "t", "--reason", "r", "--everything"],
]
KAFKA_COMMANDS = [
    ["queues"],
    ["log"],
    ["log", "--follow"],
    ["topics"],
    ["topics", "--check"],
    ["inject", "a.example", "-"],
]


@pytest.mark.parametrize("arguments", API_COMMANDS, ids=" ".join)
def test_no_api(alone: dict[str, str], arguments: list[str]) -> None:
    (line,) = xferq(*arguments, env=alone, status=1).stderr.splitlines()
    assert line.startswith("xferq: can't reach the api at http://127.0.0.1:1: is `xferq api` running? (XFERQ_API_URL)")


@pytest.mark.parametrize("arguments", KAFKA_COMMANDS, ids=" ".join)
def test_no_kafka(alone: dict[str, str], arguments: list[str]) -> None:
    (line,) = xferq(*arguments, env=alone, status=1, stdin=b"Subject: s\n\n").stderr.splitlines()
    assert "XFERQ_BOOTSTRAP_SERVERS names none, and no `xferq up` or `xferq broker` is running" in line
    closed = alone | {"XFERQ_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    (line,) = xferq(*arguments, env=closed, status=1, stdin=b"Subject: s\n\n").stderr.splitlines()
    assert line == "xferq: can't reach Kafka at 127.0.0.1:1: Connection refused (XFERQ_BOOTSTRAP_SERVERS)"


@pytest.mark.parametrize("url", ["nonsense", "http://[", "ftp://127.0.0.1", "http://127.0.0.1:99999"])
def test_a_url_that_is_none(alone: dict[str, str], url: str) -> None:
    (line,) = xferq("status", env=alone | {"XFERQ_API_URL": url}, status=1).stderr.splitlines()
    assert url in line


def test_something_else_answers(alone: dict[str, str], broker: EmbeddedBroker) -> None:
    env = alone | {"XFERQ_API_URL": f"http://{broker.bootstrap_servers}"}
    (line,) = xferq("status", env=env, status=1).stderr.splitlines()
    assert broker.bootstrap_servers in line


def test_a_setting_that_is_not_valid(alone: dict[str, str]) -> None:
    (line,) = xferq("queues", env=alone | {"XFERQ_LOG_PARTITIONS": "many"}, status=2).stderr.splitlines()
    assert line.startswith("xferq: XFERQ_LOG_PARTITIONS: ")


@pytest.mark.parametrize("command", ["api", "worker", "queues"])
def test_python_optimised(alone: dict[str, str], command: str) -> None:
    for python, more in ((["-O"], {}), ([], {"PYTHONOPTIMIZE": "1"})):
        result = subprocess.run(
            [sys.executable, *python, "-m", "api.cli", command], env=alone | more, capture_output=True, check=False
        )
        assert result.returncode == 2
        assert b"python -O" in result.stderr


# ---- commands over HTTP


def test_a_cancel(world: World) -> None:
    queue = a_queue()
    world.create(queue)
    result = world.run("cancel", queue, "--reason", "r\u00fcckw\u00e4rts")
    id = result.stdout.strip()
    assert f"xferq status {id}" in result.stderr
    status = json.loads(world.run("status", id, "--json").stdout)
    assert (status["id"], status["queue_name"], status["reason"]) == (id, queue, "r\u00fcckw\u00e4rts")
    assert f"state:            {status['state']}" in world.run("status", id).stdout


def test_nobody_makes_up_who_asks(world: World) -> None:
    queue = a_queue()
    world.create(queue)
    with httpx.Client(base_url=world.env["XFERQ_API_URL"], trust_env=False) as client:
        headers = {"Idempotency-Key": queue[7:15]}
        body = {"queue_name": queue, "reason": "r"}
        for name, value in (("X-Forwarded-For", "203.0.113.1"), ("Forwarded", "for=203.0.113.1")):
            forwarded = client.post("/api/admin/xfer/cancel/v1", json=body, headers=headers | {name: value})
            assert forwarded.status_code == 401  # nobody has named that proxy
        made_up = client.post("/api/admin/xfer/cancel/v1", json=body | {"requested_by": "somebody"}, headers=headers)
        assert made_up.status_code == 422
        assert client.post("/api/admin/xfer/cancel/v1", json=body, headers=headers).status_code == 200
    assert json.loads(world.run("status", queue[7:15], "--json").stdout)["requested_by"] == "127.0.0.1"


def test_a_transfer_with_criteria(world: World) -> None:
    result = world.run(
        "transfer", "--target", "http://T.example", "--reason", "r", "--queue", "a", "--queue", "b", "--json"
    )
    status = json.loads(result.stdout)
    assert (status["type"], status["queue_name"]) == ("xfer.start", "http://t.example/.xfer.kumomta.internal")


def test_what_the_api_refuses(world: World) -> None:
    queue = a_queue()
    for arguments, what in (
        (["cancel", "example.com", "--reason", "r"], "example.com is not an xfer queue"),
        (["cancel", queue, "--reason", "r"], f"{queue} is not a current scheduled queue"),
        (["cancel", "http://front-door.test", "--reason", "r"], f"did you mean http://front-door.test/{XFER_SUFFIX}?"),
        (["cancel", queue, "--reason", ""], "reason must be 1 to 1024 bytes of UTF-8"),
        (["cancel", queue, "--reason", "r", "--id", "a b"], "Idempotency-Key must be"),
        (["transfer", "--target", "x", "--reason", "r", "--everything"], "target is not a valid URL"),
        (["status", "nope"], "nope is not a known command"),
        (["status", "a/../b?c#d"], "'a/../b?c#d' can't be the id of a command"),
    ):
        (line,) = world.run(*arguments, status=1).stderr.splitlines()
        assert what in line


def test_text_that_is_not_utf8(world: World) -> None:
    bad = b"\xff\xfe".decode(errors="surrogateescape")
    for arguments in (["cancel", a_queue(), "--reason", bad], ["cancel", bad, "--reason", "r"], ["status", bad]):
        assert world.run(*arguments, status=1).stderr


def test_a_cancel_with_an_id_is_repeated(world: World) -> None:
    queue, id = a_queue(), uuid.uuid4().hex
    world.create(queue)
    for _ in range(2):
        assert world.run("cancel", queue, "--reason", "r", "--id", id).stdout.strip() == id
    (line,) = world.run("cancel", queue, "--reason", "another", "--id", id, status=1).stderr.splitlines()
    assert "is the id of another command" in line


def test_waiting_ends_with_the_counts(world: World) -> None:
    queue, id = a_queue(), uuid.uuid4().hex
    world.create(queue)
    waiting = WarmPopen(
        [XFERQ, "cancel", queue, "--reason", "r", "--id", id, "--wait", "--json"], env=world.env, stdout=subprocess.PIPE
    )
    world.record(id, state="waiting", detail="a queue without a leader")
    assert waiting.poll() is None
    world.record(id, state="done", total=7, restored=5, returned=2, returned_reasons={"too_large": 2}, detail=None)
    out, _ = waiting.communicate(timeout=WAIT_S)
    assert waiting.returncode == 0
    status = json.loads(out)
    assert (status["total"], status["restored"], status["returned"]) == (7, 5, 2)
    shown = world.run("status", id).stdout
    assert "total:            7\n" in shown
    assert "too_large: 2" in shown
    assert world.run("status", id, "--wait").stdout == shown


def test_waiting_for_what_is_refused(world: World) -> None:
    queue, id = a_queue(), uuid.uuid4().hex
    world.create(queue)
    waiting = WarmPopen(
        [XFERQ, "cancel", queue, "--reason", "r", "--id", id, "--wait"], env=world.env, stdout=subprocess.PIPE
    )
    world.record(id, state="refused", detail="its members can't be listed")
    out, _ = waiting.communicate(timeout=WAIT_S)
    assert waiting.returncode == 1
    assert b"its members can't be listed" in out


def test_waiting_outlives_the_api(world: World) -> None:
    queue, id = a_queue(), uuid.uuid4().hex
    world.create(queue)
    with ApiProcess(world.env) as other:
        port = other.url.rpartition(":")[2]
        wait_until(lambda: "api.ready" in "".join(other.log))
        waiting = WarmPopen(
            [XFERQ, "cancel", queue, "--reason", "r", "--id", id, "--wait", "--json"],
            env=world.env | {"XFERQ_API_URL": other.url},
            stdout=subprocess.PIPE,
        )
        world.record(id, state="waiting")
    world.record(id, state="done", total=0)
    with WarmPopen([XFERQ, "api", "--port", port], env=world.env, stderr=subprocess.DEVNULL) as again:
        out, _ = waiting.communicate(timeout=WAIT_S)
        again.terminate()
    assert (waiting.returncode, json.loads(out)["state"]) == (0, "done")


def test_the_list(world: World) -> None:
    queue, id = a_queue(), uuid.uuid4().hex
    world.create(queue)
    world.run("cancel", queue, "--reason", "r", "--id", id)
    first, head, row = world.run("status", "--queue", queue).stdout.splitlines()
    assert re.fullmatch(r"\d+ workers? \S api ok \S \d+ running", first)
    assert head.split() == ["ID", "STATE", "MOVED", "AGE", "WHAT"]
    assert row.split()[0] == id[:8]
    assert row.split()[-2:] == ["cancel", queue.removeprefix("http://").partition("/")[0]]
    assert f"id:               {id}" in world.run("status", id[:8]).stdout
    assert "is not a known command" in world.run("status", id[:8] + "x", status=1).stderr
    listed = json.loads(world.run("status", "--queue", queue, "--json").stdout)
    assert [item["id"] for item in listed] == [id]
    assert len(json.loads(world.run("status", "--limit", "1", "--json").stdout)) == 1


def test_what_could_steer_a_terminal_is_shown_as_text(world: World) -> None:
    queue, id = f"\x1b[2J\u202e{own_name()}.xfer.kumomta.internal", uuid.uuid4().hex
    world.create(queue)
    world.run("cancel", queue, "--reason", "\x1b]0;x\x07\nr", "--id", id)
    for arguments in (["status"], ["status", id], ["queues"]):
        out = world.run(*arguments).stdout
        assert not {"\x1b", "\x07", "\u202e"} & set(out)
    assert "\\x1b]0;x\\x07\\nr" in world.run("status", id).stdout


# ---- commands on Kafka


def test_mail_into_a_queue(world: World, tmp_path: Path) -> None:
    domain = a_domain()
    queue = f"camp:ten@{domain}!relay.example"
    (tmp_path / "a.mbox").write_bytes(b"".join(MBOX % (n, n) for n in range(5)))
    (tmp_path / "b.eml").write_bytes(b"To: x@" + domain.encode() + b"\r\nSubject: \xff\r\n\r\n\x00\xfe")
    result = world.run("inject", queue, str(tmp_path / "a.mbox"), str(tmp_path / "b.eml"))
    assert result.stdout == f"6 messages are in {queue}\n"

    wait_until(lambda: len(world.records(queue)) == 6)  # committed, and perhaps not yet to be read
    records = world.records(queue)
    assert len({record.key for record in records}) == 6
    assert {record.partition for record in records} == {0, 1}
    assert {record.value for record in records} >= {
        (tmp_path / "b.eml").read_bytes(),
        (MBOX % (3, 3)).partition(b"\n")[2][:-1],
    }
    for record in records:
        ((name, header),) = record.headers
        assert name == "envelope"
        envelope = parse_envelope(header or b"")
        assert queue_of_envelope(envelope) == queue
        assert envelope["meta"]["tenant"] == "ten"
        assert (envelope["num_attempts"], envelope["due"], envelope["schedule"]) == (0, None, None)


def test_one_message_on_standard_input(world: World) -> None:
    queue = a_domain()
    schedule = '{"expires": "3000-12-31T00:00:00Z"}'
    options = ["--sender", "s@x.example", "--recipient", f"r@{queue}", "--schedule", schedule]
    world.run("inject", queue, "-", *options, stdin=b"Subject: s\n\nbody")
    (record,) = world.records(queue)
    assert record.value == b"Subject: s\n\nbody"
    envelope = json.loads(record.headers[0][1] or b"")
    assert (envelope["sender"], envelope["recipient"], envelope["meta"]) == ("s@x.example", f"r@{queue}", {})
    assert envelope["schedule"] == json.loads(schedule)


def test_a_message_that_is_too_large_is_named_and_the_others_go(world: World, tmp_path: Path) -> None:
    queue = a_domain()
    (tmp_path / "large.eml").write_bytes(b"Subject: l\n\n" + b"x" * (2 << 20))
    (tmp_path / "small.eml").write_bytes(b"Subject: s\n\nbody")
    result = world.run("inject", queue, str(tmp_path), status=1)
    assert result.stdout == f"1 message is in {queue}, 1 is not\n"
    assert "large.eml" in result.stderr
    assert "max.message.bytes of this topic" in result.stderr
    assert "1,048,588" in result.stderr
    assert [record.value for record in world.records(queue)] == [b"Subject: s\n\nbody"]


def test_one_bad_file_stops_no_other(world: World, tmp_path: Path) -> None:
    queue = a_domain()
    mail = b"From: a@s.example\nTo: b@x.example\n\nbody\n"
    for name, data in {
        "a.eml": mail,
        "b.eml": b"\x1f\x8b",
        "c.eml": b"To: Bob\n\n",
        "d.EML": mail,
        "e.eml": b"",
        "._f.eml": b"\0",
    }.items():
        (tmp_path / name).write_bytes(data)
    result = world.run("inject", queue, str(tmp_path), str(tmp_path / "a.eml"), status=1)
    assert result.stdout == f"2 messages are in {queue}, 2 are not\n"
    twice = f"left out: names of files that were read by another name: 1, such as {tmp_path}/a.eml\n"
    assert twice in result.stderr
    assert f"{tmp_path}/b.eml is compressed with gzip" in result.stderr
    assert f"{tmp_path}/c.eml has no recipient that can be read in To" in result.stderr
    assert f"left out: names that begin with a dot: 1, such as {tmp_path}/._f.eml\n" in result.stderr
    assert f"left out: empty files or messages: 1, such as {tmp_path}/e.eml\n" in result.stderr
    assert "messages/s" in result.stderr
    assert [record.value for record in world.records(queue)] == [mail] * 2


def test_a_pipe_is_injected_whole(world: World, tmp_path: Path) -> None:
    queue = a_domain()
    mail = b"From: a@s.example\nTo: b@x.example\n\n" + b"line\n" * 9_000
    world.run("inject", queue, "/dev/stdin", stdin=mail)
    world.run("inject", queue, "-", stdin=b"From a\n" + mail + b"\nFrom b\n" + mail)
    assert [record.value for record in world.records(queue)] == [mail] * 3


@pytest.mark.parametrize("stdin", [b"", b"\n", b"From a\n"])
def test_no_mail_is_no_message_and_makes_no_topic(world: World, stdin: bytes) -> None:
    queue = a_domain()
    result = world.run("inject", queue, "-", stdin=stdin, status=1)
    assert "there is no message" in result.stderr
    assert topic_of(queue) not in world.run("queues", "--json").stdout


def test_addresses_that_are_given(world: World, tmp_path: Path) -> None:
    queue = a_domain()
    options = ["--sender", "<>", "--recipient", "Bob <b@x.example>", "--recipient", '"odd user"@x.example']
    result = world.run("inject", queue, "-", *options, stdin=b"Subject: s\n\nbody")
    assert "names no recipient" not in result.stderr
    (record,) = world.records(queue)
    envelope = json.loads(record.headers[0][1] or b"")
    assert (envelope["sender"], envelope["recipient"]) == ("", ["b@x.example", '"odd user"@x.example'])


def test_who_gets_a_message_without_recipients_is_said(world: World) -> None:
    queue = a_domain()
    result = world.run("inject", queue, "-", stdin=b"From: a@s.example\n\nbody")
    assert f"standard input names no recipient: to postmaster@{queue}\n" in result.stderr
    (record,) = world.records(queue)
    assert json.loads(record.headers[0][1] or b"")["recipient"] == f"postmaster@{queue}"


def test_mail_into_an_xfer_queue_is_warned_about(world: World) -> None:
    queue = a_queue()
    assert "can't restore" in world.run("inject", queue, "-", stdin=b"Subject: s\n\n").stderr
    assert len(world.records(queue)) == 1


def test_the_depths_of_queues(world: World) -> None:
    full, empty, long_name = a_domain(), a_queue(), "x" * 300 + a_domain()
    world.run("inject", full, "-", stdin=b"Subject: s\n\n")
    world.create(empty, long_name)
    listed = {item["queue_name"] or item["topic"]: item for item in json.loads(world.run("queues", "--json").stdout)}
    as_of = listed[full]["depth"]["as_of"]
    depth, none = ({"messages": n, "exact": True, "at_most": n, "as_of": as_of} for n in (1, 0))  # and a marker
    assert listed[full] == {
        "queue_name": full,
        "topic": topic_of(full),
        "partitions": 2,
        "depth": depth,
        "held": none,
    }
    assert listed[empty]["depth"] == none
    assert listed[topic_of(long_name)]["queue_name"] is None
    lines = world.run("queues").stdout.splitlines()
    assert any(line.split() == [full, "1", "0"] for line in lines)
    xfer = json.loads(world.run("queues", "--xfer", "--json").stdout)
    assert empty in {item["queue_name"] for item in xfer}
    assert full not in {item["queue_name"] for item in xfer}


def a_log_record(id: str) -> bytes:
    content = {"content": f"Rebound from a to b: {id}\x1b"}
    return json.dumps(
        {"type": "AdminRebind", "id": id, "event_time": "2026-11-24T10:00:00Z", "response": content}
    ).encode()


def test_the_log(world: World) -> None:
    one = uuid.uuid4().hex
    world.publish(world.settings.log_topic, [a_log_record(one), b"not json", b"{}"])
    lines = world.run("log").stdout.splitlines()
    assert f"2026-11-24T10:00:00Z  AdminRebind  {one}  Rebound from a to b: {one}\\x1b" in lines
    assert sum("not a log record" in line for line in lines) == 2
    assert a_log_record(one).decode() in world.run("log", "--json").stdout.splitlines()


@pytest.mark.parametrize("from_beginning", [False, True])
def test_following_the_log(world: World, from_beginning: bool) -> None:
    before, after = uuid.uuid4().hex, uuid.uuid4().hex
    world.publish(world.settings.log_topic, [a_log_record(before)])
    options = ["--from-beginning"] if from_beginning else []
    with WarmPopen(
        [XFERQ, "log", "--follow", "--json", *options], env=world.env, stdout=subprocess.PIPE, text=True
    ) as following:
        seen: list[str] = []
        reading = threading.Thread(target=lambda: seen.extend(following.stdout or ()), daemon=True)
        reading.start()
        end = deadline()
        while after not in "".join(seen) and not end.is_over:
            world.publish(world.settings.log_topic, [a_log_record(after)])  # until it is there to see it
        following.send_signal(signal.SIGINT)
        try:
            assert following.wait(WAIT_S) == 0
        finally:
            following.kill()
        reading.join()
    assert after in "".join(seen)
    assert (before in "".join(seen)) == from_beginning


def test_a_part_of_the_log(world: World) -> None:
    old, new = uuid.uuid4().hex, uuid.uuid4().hex
    world.publish(world.settings.log_topic, [a_log_record(old)])
    world.publish(world.settings.log_topic, [a_log_record(new)])
    wait_until(lambda: new in world.run("log", "--json").stdout)  # committed, and perhaps not yet to be read
    assert old in world.run("log", "--since", "1h").stdout
    assert world.run("log", "--since", "2999-01-01T00:00:00Z").stdout == ""
    (line,) = world.run("log", "--tail", "1").stdout.splitlines()
    assert new in line
    (line,) = world.run("log", "--id", old).stdout.splitlines()
    assert old in line
    assert world.run("log", "--id", old, "--queue", "c").stdout == ""
    assert len(world.run("log", "--queue", "a").stdout.splitlines()) >= 2
    assert world.run("log", "--since", "never", status=2).stdout == ""


def test_topics_are_checked(world: World) -> None:
    names = (world.settings.commands_topic, world.settings.ledger_topic)
    wrong = world.env | {"XFERQ_LEDGER_PARTITIONS": "9"}
    result = xferq("topics", "--check", "--json", env=wrong, status=1)
    found = {report["topic"]: report for report in json.loads(result.stdout)}
    assert [found[name]["outcome"] for name in names] == ["ok", "drift"]
    assert "XFERQ_LEDGER_PARTITIONS is 9" in found[names[1]]["details"][0]
    assert "topics are not as they should be" in result.stderr


def test_topics_by_a_file_that_would_lose_mail(world: World, tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('[queues]\n"retention.ms" = 1\n')
    (line,) = world.run("topics", "--file", str(tmp_path / "t.toml"), status=1).stderr.splitlines()
    assert "retention.ms must be -1" in line


def test_output_that_nobody_reads_on(world: World) -> None:
    world.publish(world.settings.log_topic, [a_log_record("x")] * 5000)
    command = f"{XFERQ} log | head -n 1"
    result = subprocess.run(["bash", "-c", command], env=world.env, capture_output=True, check=False, timeout=WAIT_S)
    assert result.stdout.count(b"\n") == 1
    assert b"Traceback" not in result.stderr
