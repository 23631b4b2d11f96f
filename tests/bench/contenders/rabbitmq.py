"""A RabbitMQ of one's own, on loopback, in a temporary folder: Debian's package, without its service."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import glob
from pathlib import Path
from typing import NamedTuple

import httpx

from streams.broker.ports import LOOPBACK, free_ports

_START_S = 90.0
_INSTALLED = "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"


class Ports(NamedTuple):
    """Where it listens."""

    amqp: int
    http: int


class RabbitFailed(Exception):
    """It did not start; the text is the end of what it said."""


def server_script() -> str | None:
    """RabbitMQ's own script: Debian's in /usr/sbin changes the user, and so could not write where we want it to."""
    found = sorted(glob(_INSTALLED))
    return found[-1] if found else shutil.which("rabbitmq-server")


@contextmanager
def rabbitmq() -> Iterator[Ports]:
    """A running one; it is gone, and all that it held, at the end.

    Raises:
        RabbitFailed: it does not answer in time.
    """
    script = server_script()
    if script is None:
        raise RabbitFailed("rabbitmq-server is not installed")
    amqp, http, distribution, epmd = free_ports(4)
    with tempfile.TemporaryDirectory(prefix="bench-rabbitmq-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        (home / "empty.conf").touch()
        (home / "enabled_plugins").write_text("[rabbitmq_management,rabbitmq_shovel].\n")
        (home / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {LOOPBACK}:{amqp}\n"
            f"management.tcp.ip = {LOOPBACK}\n"
            f"management.tcp.port = {http}\n"
            # Its figures would cost it a part of its speed.
            "management_agent.disable_metrics_collector = true\n"
        )
        environment = {
            **os.environ,
            "HOME": folder,
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": "bench@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CONF_ENV_FILE": str(home / "empty.conf"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home / "logs"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
        }
        log = home / "output.log"
        with log.open("wb") as output:
            # Erlang's port mapper would otherwise be started for good by the first node.
            mapper = _started(["epmd", "-port", str(epmd), "-address", LOOPBACK], environment, output)
            server = _started([script], environment, output)
        try:
            _wait(server, Ports(amqp, http), log)
            yield Ports(amqp, http)
        finally:
            for process in (server, mapper):
                # With all of its group: the script starts Erlang, and that its helpers. Nothing of it is kept.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _started(command: list[str], environment: dict[str, str], output: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,  # type: ignore[call-overload]
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _wait(server: "subprocess.Popen[bytes]", ports: Ports, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection((LOOPBACK, ports.amqp), 1).close()
            answer = httpx.get(f"http://{LOOPBACK}:{ports.http}/api/whoami", auth=("guest", "guest"), timeout=5)
            if answer.status_code == 200:
                return
        except (OSError, httpx.HTTPError):
            pass
        time.sleep(0.2)
    raise RabbitFailed(f"RabbitMQ did not start: {log.read_text(errors='replace')[-2000:]}")
