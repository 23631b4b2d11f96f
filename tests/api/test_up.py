"""`xferq up` and `xferq broker` as processes: found by the other commands, ended with all they have started."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from api.embedded import Running, announced, api_url, data_folder, find, running_up, state_file, with_kafka
from streams.broker import EmbeddedBroker
from streams.errors import Misconfigured
from streams.settings.settings import Settings
from tests.api.processes import XFERQ, environment, xferq
from tests.support.names import own_name, remove_topics
from tests.support.patience import WAIT_S, wait_until
from tests.support.warm import WarmPopen

pytestmark = pytest.mark.nodes

XFER_QUEUE = "http://mx2.example/.xfer.kumomta.internal"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An environment with a home of its own, in which nothing runs."""
    return environment({"XFERQ_METRICS_PORT": "0", "XFERQ_WORKER_PROCESSES": "1"}, tmp_path)


@contextmanager
def started(env: dict[str, str], *arguments: str) -> Iterator[tuple["subprocess.Popen[bytes]", Running]]:
    """A process that announces a broker, and what it announces; killed at the end where it still runs."""
    log = Path(env["XDG_STATE_HOME"]).parent / f"{arguments[0]}.log"
    file = Path(env["XDG_STATE_HOME"]) / "xferq" / "embedded.json"
    with log.open("wb") as stderr:
        process = WarmPopen([XFERQ, *arguments], env=env, stderr=stderr)
    try:
        wait_until(lambda: file.exists() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield process, Running(**json.loads(file.read_text()))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        print(log.read_text())


def children_of(pid: int) -> set[int]:
    """The processes below this one, on any level."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(pid): int(parent) for pid, parent in (line.split() for line in listed.splitlines())}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def is_alive(pid: int) -> bool:
    """Whether the process runs (one that has ended and was not reaped yet doesn't)."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def test_up_is_all_that_is_needed(env: dict[str, str], tmp_path: Path) -> None:
    with started(env, "up", "--port", "0", "--api-port", "0") as (process, running):
        assert running.pid == process.pid
        for number in range(3):
            mail = f"To: u{number}@example.com\n\nbody".encode()
            xferq("inject", "mytenant@example.com", "-", env=env, stdin=mail)
        transfer = ["transfer", "--target", "http://mx2.example", "--reason", "maintenance", "--everything", "--wait"]
        assert json.loads(xferq(*transfer, "--json", env=env).stdout)["restored"] == 3
        cancel = ["cancel", XFER_QUEUE, "--reason", "mx2 is full", "--wait", "--json"]
        status = json.loads(xferq(*cancel, env=env).stdout)
        assert (status["state"], status["total"], status["restored"], status["returned"]) == ("done", 3, 3, 0)
        assert xferq("topics", "--check", env=env).stdout
        log = xferq("log", env=env).stdout
        assert log.count(f"Rebound from {XFER_QUEUE} to mytenant@example.com: mx2 is full") == 3

        again = xferq("up", env=env).stderr
        assert again == (
            f"xferq is up already, by process {process.pid}\nKafka:  {running.bootstrap_servers}\n"
            f"API:    {running.api_url}/docs\n"
        )

        below = children_of(process.pid)
        assert len(below) >= 4  # api, worker, Java and its watchdog
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 0
        assert not any(is_alive(pid) for pid in below)
    assert not (tmp_path / "state" / "xferq" / "embedded.json").exists()

    # What was there is there again.
    with started(env, "up", "--port", "0", "--api-port", "0") as (process, _):
        depths = {item["queue_name"]: item["depth"] for item in json.loads(xferq("queues", "--json", env=env).stdout)}
        assert depths["mytenant@example.com"]["messages"] == 3
        assert len(json.loads(xferq("status", "--json", env=env).stdout)) == 2
        below = children_of(process.pid)
        process.kill()
        wait_until(lambda: not any(is_alive(pid) for pid in below))
    xferq("queues", env=env, status=1)  # what the killed one left behind leads nobody astray


def test_a_broker_alone(env: dict[str, str], tmp_path: Path) -> None:
    data = tmp_path / "elsewhere"
    with started(env, "broker", "--port", "0", "--data", str(data)) as (process, running):
        assert running.api_url is None
        assert data.is_dir()
        assert "created" in xferq("topics", env=env).stdout
        second = xferq("up", "--port", running.bootstrap_servers.rpartition(":")[2], env=env, status=1)
        assert "--port 0 takes a free one" in second.stderr

        # Against a Kafka that is named, `up` starts none.
        named = env | {"XFERQ_BOOTSTRAP_SERVERS": running.bootstrap_servers, "XDG_STATE_HOME": str(tmp_path / "other")}
        with started(named, "up", "--api-port", "0") as (up, found):
            assert found.bootstrap_servers == running.bootstrap_servers
            assert not any("java" in _name(pid) for pid in children_of(up.pid))
            up.terminate()
            assert up.wait(WAIT_S) == 0
        process.terminate()
        assert process.wait(WAIT_S) == 0


def _name(pid: int) -> str:
    return subprocess.run(["ps", "-o", "comm=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout


def test_a_child_that_ends_ends_it(env: dict[str, str], broker: EmbeddedBroker) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        own = own_name()
        env = env | _topics_of(own) | {"XFERQ_BOOTSTRAP_SERVERS": broker.bootstrap_servers}
        result = xferq("up", "--api-port", port, env=env, status=1)
    assert f"can't listen on 127.0.0.1 port {port}" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("xferq: the api has ended with status 1")
    remove_topics(broker.bootstrap_servers, own)


def _topics_of(own: str) -> dict[str, str]:
    return {
        f"XFERQ_{name}_{kind}": value
        for name in ("COMMANDS", "DRAINS", "LEDGER", "LOG")
        for kind, value in (("TOPIC", f"{name.lower()}.{own}"), ("PARTITIONS", "2"))
    }


# ---- how it is found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of this process's own."""
    for name in [name for name in os.environ if name.startswith("XFERQ_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def test_a_broker_is_found_while_it_is_announced(home: Path) -> None:
    assert find() is None
    with announced("127.0.0.1:1", "http://127.0.0.1:2"):
        assert find() == Running(os.getpid(), "127.0.0.1:1", "http://127.0.0.1:2")
        assert with_kafka(Settings()).bootstrap_servers == "127.0.0.1:1"
        assert api_url(Settings()) == "http://127.0.0.1:2"
        # What is set wins.
        assert with_kafka(Settings(bootstrap_servers="k:1")).bootstrap_servers == "k:1"
        assert api_url(Settings(api_url="http://x/")) == "http://x"
        assert api_url(Settings(bootstrap_servers="k:1")) == "http://127.0.0.1:8000"
    assert find() is None
    assert api_url(Settings()) == "http://127.0.0.1:8000"
    with pytest.raises(Misconfigured, match="no Kafka to talk to"):
        with_kafka(Settings())
    assert data_folder() == home / "data" / "xferq" / "kafka"


def test_the_last_one_that_was_announced_counts(home: Path) -> None:
    with announced("127.0.0.1:1"):
        later = Running(1, "127.0.0.1:9")
        state_file().write_text(json.dumps({"pid": 1, "bootstrap_servers": "127.0.0.1:9", "api_url": None}))
        assert find() == later
    assert find() == later  # another one's announcement is not ours to remove


def test_what_a_killed_one_has_left_is_not_up(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with announced(f"127.0.0.1:{port}", "http://127.0.0.1:2"):
            assert running_up() == find()
        with announced(f"127.0.0.1:{port}"):
            assert running_up() is None  # a broker alone
    with announced(f"127.0.0.1:{port}", "http://127.0.0.1:2"):
        assert running_up() is None  # its number is that of another process now
    with announced("nonsense", "http://127.0.0.1:2"):
        assert running_up() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "bootstrap_servers": "k:1"}'])
def test_an_announcement_that_is_none(home: Path, text: str) -> None:
    state_file().parent.mkdir(parents=True)
    state_file().write_text(text)
    assert find() is None


def test_an_announcement_of_a_process_that_has_ended(home: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    state_file().parent.mkdir(parents=True)
    state_file().write_text(json.dumps({"pid": ended.pid, "bootstrap_servers": "k:1", "api_url": None}))
    assert find() is None


def test_a_state_folder_that_can_not_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null/x")
    with pytest.raises(Misconfigured, match="XDG_STATE_HOME"), announced("127.0.0.1:1"):
        pass
