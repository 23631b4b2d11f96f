"""`xferq demo` as a stranger types it: from the command to the table, and nothing left behind."""

import mailbox
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streams.broker import EmbeddedBroker
from tests.support.patience import WAIT_S

COMMAND = [sys.executable, "-m", "api.cli", "demo"]
PATIENCE_S = 3 * WAIT_S
MESSAGES = 200


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Settings of the surroundings don't count here; whatever is temporary lies in the folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XFERQ_") or "CACHE" in name}
    return {**kept, "TMPDIR": str(folder), "XFERQ_DEMO_MESSAGES": str(MESSAGES), **more}


def demo(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=environment(folder, **more), capture_output=True, text=True, timeout=PATIENCE_S
    )


def sums(output: str) -> list[int]:
    """The table's last row: in, transferred, dispatched, back, twice, lost, changed, log: transfer and cancel."""
    (line,) = re.findall(r"^\W*\d+ queues (.*)$", output, re.MULTILINE)
    return [int(number.replace(",", "")) for number in re.findall(r"[\d,]+", line)]


@pytest.mark.nodes
def test_all_of_it_on_a_broker_of_its_own(tmp_path: Path) -> None:
    ended = demo(tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    put_in, transferred, dispatched, back, twice, lost, changed, transfers, cancels = sums(ended.stdout)
    assert put_in >= MESSAGES
    assert (transferred, transfers, cancels) == (put_in, put_in, back)
    assert dispatched + back - twice == put_in
    assert dispatched >= put_in // 4
    assert back > 0
    assert (lost, changed) == (0, 0)
    assert "\nOK " in ended.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.alone
def test_on_a_cluster_of_somebody_else_nothing_is_touched_and_nothing_left(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    box = mailbox.mbox(tmp_path / "own.mbox")
    for number in range(30):
        box.add(mailbox.mboxMessage(f"Subject: number {number}\n\nFrom here on\n".encode()))
    box.close()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    before = topics(broker)
    # And an api that is guarded in whatever way is not the demo's.
    guarded = {"XFERQ_API_TRUSTED_HOSTS": "", "XFERQ_API_TLS_CERT": "/nope", "XFERQ_API_TLS_KEY": "/nope"}
    kafka = {"XFERQ_BOOTSTRAP_SERVERS": broker.bootstrap_servers}
    ended = demo(temporary, "--mail", str(tmp_path / "own.mbox"), **kafka, **guarded)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert sums(ended.stdout)[0] == 30
    assert {topic for topic in topics(broker) - before if "demo" in topic} == set()
    assert list(temporary.iterdir()) == []


def topics(broker: EmbeddedBroker) -> set[str]:
    from confluent_kafka.admin import AdminClient

    return set(AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=WAIT_S).topics)


@pytest.mark.nodes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_it_ends_in_order_when_told_to(tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        COMMAND,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Whoever starts the tests in the background has SIGINT switched off, and we would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Put mail into" in line:
            break
    began = descendants(process.pid)
    assert len(began) >= 4  # Kafka and its watchdog, the api, the worker
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does, to all in the foreground
    else:
        process.send_signal(number)
    rest, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, said + rest
    assert "stopped" in rest
    assert "Traceback" not in said + rest
    assert [pid for pid in began if is_running(pid)] == []
    assert list(tmp_path.iterdir()) == []


def descendants(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [(int(child), int(parent)) for child, parent in (line.split() for line in listed.splitlines())]
    found, left = [], [pid]
    while left:
        children = [child for child, parent in pairs if parent == left[0]]
        found += children
        left = left[1:] + children
    return found


def is_running(pid: int) -> bool:
    """Zombies, which are for whoever adopted them to bury, don't run."""
    state = subprocess.run(["ps", "-p", str(pid), "-o", "stat="], capture_output=True, text=True).stdout.strip()
    return state != "" and not state.startswith("Z")


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.mkdir(), "neither a maildir nor a folder with .eml files"),
        (lambda path: path.write_bytes(b""), "there is no message in"),
    ],
)
def test_a_wrong_path_is_a_mistake_and_not_a_crash(tmp_path: Path, make: object, complaint: str) -> None:
    path = tmp_path / "mail"
    make(path)  # type: ignore[operator]
    ended = demo(tmp_path, "--mail", str(path))
    assert ended.returncode == 2
    assert complaint in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def test_a_kafka_that_is_not_there_is_said(tmp_path: Path) -> None:
    ended = demo(tmp_path, XFERQ_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert ended.returncode == 1
    assert "can't reach Kafka at 127.0.0.1:1" in ended.stdout
    assert list(tmp_path.iterdir()) == []
