"""Lines of the log as JSON: what stands in them, and what no value can do to them."""

import ast
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from streams.broker.ports import free_ports
from streams.telemetry.logs import _QUIET, FIXED, JsonLine, complain, set_up_logging
from tests.api.processes import XFERQ, ApiProcess, environment, xferq
from tests.pages import ROOT
from tests.support.patience import WAIT_S
from tests.support.warm import WarmPopen

NOWHERE = "127.0.0.1:1"
ESCAPES = 'a\nb\r\n2026-11-27 ERROR forged.event\x1b[31m\x00\x7f\x9b31m\u2028\u2029\u202e\ud800é"}{'


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What is logged, as JSON from INFO on; all is as before afterwards."""
    root = logging.root
    before = root.handlers[:], root.level, sys.excepthook, threading.excepthook
    set_up_logging("INFO", "json")
    text = io.StringIO()
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(text)
    try:
        yield text
    finally:
        root.handlers[:], sys.excepthook, threading.excepthook = before[0], before[2], before[3]
        root.setLevel(before[1])
        logging.captureWarnings(capture=False)
        for name in (*_QUIET, "aiokafka.conn"):
            logging.getLogger(name).setLevel(logging.NOTSET)


def lines(text: str) -> list[dict[str, Any]]:
    """Every line an object, in printable ASCII."""
    found = [json.loads(line) for line in text.split("\n")[:-1]]
    assert re.fullmatch(r"[ -~\n]*", text)
    assert all(isinstance(line, dict) for line in found)
    return found


# ---- what stands in a line


def test_a_line_of_ours(written: io.StringIO) -> None:
    log = logging.getLogger("streams.claim.claimer")
    log.info("claim.committed id=%s topic=%s partitions=%d offsets=%d", "c-1", "queue.x", 4, 12)
    log.warning("drain.again id=%s topic=%s error=%s: 100%% sure", None, "queue.x", ValueError("why"))
    first, second = lines(written.getvalue())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {
        "level": "INFO",
        "logger": "streams.claim.claimer",
        "pid": os.getpid(),
        "event": "claim.committed",
        "command_id": "c-1",
        "topic": "queue.x",
        "partitions": 4,
        "offsets": 12,
        "message": "claim.committed id=c-1 topic=queue.x partitions=4 offsets=12",
    }
    assert (second["event"], second["command_id"], second["error"]) == ("drain.again", None, "why")
    assert second["message"].endswith("error=why: 100% sure")


@pytest.mark.parametrize("name", ["streams.x", "api.x", "faust.app", "aiokafka.consumer", "uvicorn.error"])
def test_nothing_in_a_value_is_a_line_or_a_field(written: io.StringIO, name: str) -> None:
    forged = 'x id=forged level=DEBUG\n{"level": "INFO", "event": "forged.event"}'
    logging.getLogger(name).critical("thing.said queue=%r reason=%s", ESCAPES, forged)
    (line,) = lines(written.getvalue())
    assert line["message"] == f"thing.said queue={ESCAPES!r} reason={forged}"
    assert (line["level"], line["logger"]) == ("CRITICAL", name)
    assert "command_id" not in line
    if name.startswith(("streams", "api")):
        assert (line["event"], line["queue"], line["reason"]) == ("thing.said", ESCAPES, forged)
    else:
        assert not {"event", "queue", "reason"} & line.keys()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("faust.transport.drivers.aiokafka", "[^--AIOKafkaConsumerThread]: Aiokafka has not sent fetch request for TP"),
        ("mode.services", "Crashed reason=KafkaError()"),
        ("aiokafka.consumer.fetcher", "Failed fetch messages from 1: KafkaConnectionError"),
        ("asyncio", "Unclosed AIOKafkaConsumer\nconsumer: <aiokafka.consumer.consumer.AIOKafkaConsumer object>"),
        ("asyncio", "Task exception was never retrieved\nfuture: <Task coro=<f() at /x/aiokafka/conn.py:529>>"),
    ],
)
def test_libraries_keep_to_themselves_what_is_dealt_with_anyway(written: io.StringIO, name: str, said: str) -> None:
    logging.getLogger(name).error(said)
    assert lines(written.getvalue()) == []
    set_up_logging("DEBUG", "json")
    handler = logging.root.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(written)
    logging.getLogger(name).error(said)
    (line,) = lines(written.getvalue())
    assert line["message"] == said


def test_a_task_of_ours_that_fails_is_told(written: io.StringIO) -> None:
    logging.getLogger("asyncio").error(
        "Task exception was never retrieved\nfuture: <Task coro=<f() at /x/api/link.py:5>>"
    )
    assert len(lines(written.getvalue())) == 1


def test_a_traceback_is_in_its_line(written: io.StringIO) -> None:
    try:
        raise ValueError(ESCAPES.encode(errors="ignore").decode())  # pytest keeps what is logged, in UTF-8
    except ValueError:
        logging.getLogger("streams.x").exception("worker.failed topic=%s", "t")
    (line,) = lines(written.getvalue())
    assert line["exception"].startswith("Traceback")
    assert "forged.event" in line["exception"]


@pytest.mark.parametrize(
    "record",
    [
        ("%s and %d", ("one",)),
        ("%d", ("no number",)),
        ("no place", ("for", "these")),
        ("%(named)s", ({"named": "\n"},)),
        (ValueError("\n"), ()),
        ("%s", (object(),)),
        ("thing.is a=%s b=%s", (float("nan"), [1, ("\x1b", None)])),
        ("thing.is level=%s message=%s time=%s", ("forged", "forged", "forged")),
    ],
)
def test_whatever_a_library_logs_is_a_line(record: tuple[Any, tuple[Any, ...]]) -> None:
    made = [logging.LogRecord(name, logging.CRITICAL, "", 0, *record, None) for name in ("aiokafka.x", "streams.x")]
    first, second = lines("".join(f"{JsonLine().format(one)}\n" for one in made))
    assert first["level"] == second["level"] == "CRITICAL"
    assert second["message"] != "forged"


def test_a_secret_shows_nothing(written: io.StringIO) -> None:
    logging.getLogger("streams.x").info("thing.is password=%s other=%r", SecretStr("hunter2"), SecretStr("hunter2"))
    assert "hunter2" not in written.getvalue()
    assert lines(written.getvalue())[0]["password"] == "*" * 10


def test_what_nobody_catches_and_what_python_warns_of_are_lines(written: io.StringIO) -> None:
    def fail() -> None:
        raise ValueError("in a thread")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old\nthing", DeprecationWarning, stacklevel=1)
    sys.excepthook(ValueError, ValueError("anywhere"), None)
    complain("xferq worker", "XFERQ_X is\nwrong")
    thrown, warned, anywhere, ended = lines(written.getvalue())
    assert "in a thread" in thrown["exception"]
    assert "old\nthing" in warned["message"]
    assert "anywhere" in anywhere["exception"]
    assert (ended["event"], ended["program"], ended["why"]) == (
        "process.ended",
        "xferq worker",
        "XFERQ_X is\nwrong",
    )


@cache
def templates() -> list[tuple[str, str]]:
    """What our modules log, as it stands in them, with the place."""
    found = []
    for package in ("streams", "api"):
        for module in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                if not isinstance(node.func.value, ast.Name) or node.func.value.id != "_log":
                    continue
                text = node.args[1] if node.func.attr == "log" else node.args[0]
                assert isinstance(text, ast.Constant), f"{module}:{node.lineno}"  # the fields are told by it
                if node.func.attr != "debug":
                    found.append((f"{module.relative_to(ROOT)}:{node.lineno}", str(text.value)))
    return found


@pytest.mark.parametrize(("where", "template"), templates())
def test_every_line_names_its_event_and_no_field_hides_another(where: str, template: str) -> None:
    assert re.match(r"[a-z]+\.([a-z_]+|%s)(?![\w.])", template), where
    fields = re.findall(r"(\w+)=%", template)
    assert len(set(fields)) == len(fields)
    assert not set(fields) & {*FIXED, "command_id"}


@pytest.mark.parametrize(
    "event", ["command.accepted", "claim.committed", "drain.started", "drain.finished", "command.%s"]
)
def test_every_change_of_state_has_the_command_s_id(event: str) -> None:
    found = [template for _, template in templates() if template.split()[0] == event]
    assert found
    assert all(" id=%s" in template for template in found)


# ---- of whole processes


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    variables = {"XFERQ_BOOTSTRAP_SERVERS": NOWHERE, "XFERQ_LOG_FORMAT": "JSON", "XFERQ_LOG_LEVEL": "DEBUG"}
    return environment(variables, tmp_path)


def test_an_api(env: dict[str, str]) -> None:
    with ApiProcess(env) as api:
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(api.url.partition('"')[0] + "/readyz", timeout=WAIT_S)  # noqa: S310 - http
        assert api.end() == 0
    found = lines("".join(api.log))
    assert {"api.listening", "api.waiting", "api.stopped"} <= {line.get("event") for line in found}


def test_a_worker_of_two_processes_and_their_metrics(env: dict[str, str]) -> None:
    """Each has a port of its own, on the address that is set; what they say, and their supervisor, are lines."""
    first = _two_free_ports()
    env |= {"XFERQ_METRICS_PORT": str(first), "XFERQ_METRICS_HOST": "127.0.0.2"}
    worker = WarmPopen([XFERQ, "worker", "--processes", "2"], env=env, stderr=subprocess.PIPE)
    try:
        assert worker.stderr is not None
        said = []
        while sum("worker.waiting" in line for line in said) < 2:
            said.append(worker.stderr.readline().decode())
            assert said[-1], said
        for port in (first, first + 1):
            with urllib.request.urlopen(f"http://127.0.0.2:{port}/metrics", timeout=WAIT_S) as answer:
                assert re.search(rb"(?m)^xferq_undrained_messages 0\.0$", answer.read())
        worker.send_signal(signal.SIGTERM)
        said.append(worker.stderr.read().decode())
        assert worker.wait(WAIT_S) == 0
    finally:
        worker.kill()
    found = lines("".join(said))
    assert len({line["pid"] for line in found if line.get("event") == "worker.waiting"}) == 2


def _two_free_ports() -> int:
    """The first of two that are neighbours."""
    while True:
        (port,) = free_ports(1)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.2", port + 1))
            return port


def test_why_a_process_does_not_start(env: dict[str, str]) -> None:
    ended = xferq("api", "--port", "0", env=env | {"XFERQ_KAFKA_USERNAME": "u"}, status=1)
    line = lines(ended.stderr)[-1]
    assert line["event"] == "process.ended"
    assert line["why"].startswith("XFERQ_KAFKA_USERNAME is set, but")
