"""Several worker processes under one supervisor: they work together, come back, and end with it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streams.broker import EmbeddedBroker
from streams.kafka.cluster import Cluster
from streams.kafka.layout import apply_layout
from streams.settings.settings import Settings
from tests.support.patience import WAIT_S, allowed_s, wait_until
from tests.support.warm import WarmPopen

_PROGRAM = (
    "import sys; from streams.settings.settings import load_settings;"
    "from streams.worker.supervisor import run_workers;"
    "sys.exit(run_workers(load_settings()))"
)


def children_of(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
async def settings(broker: EmbeddedBroker, request: pytest.FixtureRequest) -> Settings:
    name = f"supervisor{time.time_ns()}"
    settings = Settings(
        bootstrap_servers=broker.bootstrap_servers,
        commands_topic=f"{name}.commands",
        drains_topic=f"{name}.drains",
        ledger_topic=f"{name}.ledger",
        log_topic=f"{name}.log",
        worker_group=name,
        commands_partitions=4,
        drains_partitions=4,
        ledger_partitions=4,
        worker_processes=2,
        metrics_port=0,
    )
    async with Cluster(settings) as cluster:
        await apply_layout(cluster.connection, settings)
    return settings


@contextmanager
def supervisor(settings: Settings, tmp_path: Path) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    log = tmp_path / "log"
    variables = {f"XFERQ_{k.upper()}": str(v) for k, v in settings.model_dump(exclude_defaults=True).items()}
    with log.open("w") as out:
        process = WarmPopen(
            [sys.executable, "-c", _PROGRAM], env={**os.environ, **variables, "TMPDIR": str(tmp_path)}, stderr=out
        )
        try:
            yield process, log
        finally:
            process.kill()
            process.wait()


def started(log: Path) -> int:
    return log.read_text().count("worker.started")


def test_processes_start_and_all_end_on_sigterm(settings: Settings, tmp_path: Path) -> None:
    with supervisor(settings, tmp_path) as (process, log):
        wait_until(lambda: started(log) == 2)
        children = children_of(process.pid)
        assert len(children) == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(allowed_s(10)) == 0
        assert not any(map(is_alive, children))
        # Nothing of what the libraries say of themselves.
        assert [
            line for line in log.read_text().splitlines() if not re.match(r"[-\d]+ [:,\d]+ [A-Z]+ [a-z]+\.", line)
        ] == []


def test_the_supervisor_has_nothing_of_the_application_in_memory() -> None:
    program = "import sys, streams.worker.supervisor; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pydantic", "aiokafka", "faust", "asyncio", "orjson", "prometheus_client", "streams.kafka"} & {*found}


def test_a_killed_process_is_started_again(settings: Settings, tmp_path: Path) -> None:
    with supervisor(settings, tmp_path) as (process, log):
        wait_until(lambda: started(log) == 2)
        victim = min(children_of(process.pid))
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: started(log) == 3)
        assert victim not in children_of(process.pid)
        assert len(children_of(process.pid)) == 2


def test_a_killed_supervisor_takes_its_processes_with_it(settings: Settings, tmp_path: Path) -> None:
    with supervisor(settings, tmp_path) as (process, log):
        wait_until(lambda: started(log) == 2)
        children = children_of(process.pid)
        process.kill()
        wait_until(lambda: not any(map(is_alive, children)))


def test_what_no_start_can_mend_ends_the_supervisor(settings: Settings, tmp_path: Path) -> None:
    wrong = settings.model_copy(update={"ledger_topic": "nowhere"})
    with supervisor(wrong, tmp_path) as (process, log):
        assert process.wait(WAIT_S) == 1
        assert "nowhere" in log.read_text()
