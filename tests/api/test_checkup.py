"""`xferq health` asks what really listens: an api with and without TLS and access control, and workers' ports."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
import trustme

from api.cli.checkup import Part, health
from streams.broker.ports import free_ports, is_free
from streams.errors import Misconfigured, Unavailable
from streams.telemetry.health import Health
from streams.worker.probes import Probes
from tests.api.processes import ApiProcess, environment, xferq
from tests.api.test_access import LINE

Ask = Callable[..., str]


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def worker_port(health: Health, port: int = 0) -> Iterator[int]:
    """The port of a worker that is like this."""
    with make_server("127.0.0.1", port, Probes(health), handler_class=Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def closed_port() -> int:
    """A port with a free one behind it, too."""
    while True:
        (port,) = free_ports(1)
        if is_free(port + 1):
            return port


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """`xferq health` with these settings, and else ports where nobody listens: what it says, in the end."""

    def ask(part: Part | None = None, **variables: str) -> str:
        ports = {"XFERQ_API_LISTEN_PORT": str(closed_port()), "XFERQ_METRICS_PORT": str(closed_port())}
        with monkeypatch.context() as patch:
            for name, value in (ports | {"XFERQ_WORKER_PROCESSES": "1"} | variables).items():
                patch.setenv(name, value)
            health(part)
        return capsys.readouterr().out

    return ask


def port_of(api: ApiProcess) -> dict[str, str]:
    return {"XFERQ_API_LISTEN_PORT": api.url.rpartition(":")[2]}


def test_nothing_is_there(ask: Ask) -> None:
    for part in (None, Part.API, Part.WORKER):
        with pytest.raises(Unavailable, match="nothing of xferq's listens"):
            ask(part)
    with pytest.raises(Misconfigured, match="XFERQ_METRICS_PORT is 0"):
        ask(Part.WORKER, XFERQ_METRICS_PORT="0")


def test_a_worker_is_as_it_says(ask: Ask) -> None:
    state = Health()
    with worker_port(state) as port:
        own = {"XFERQ_METRICS_PORT": str(port)}
        assert ask(Part.WORKER, **own) == ask(**own) == f"http://127.0.0.1:{port}: ok\n"
        state.notes("commands", "a transaction is open")
        assert ask(**own) == f"http://127.0.0.1:{port}: ok; a transaction is open\n"
        state.lacks("kafka", "Kafka is not there")
        for part in (None, Part.WORKER):
            with pytest.raises(Unavailable, match="Kafka is not there"):
                ask(part, **own)
        with pytest.raises(Unavailable, match="listens"):
            ask(Part.API, **own)


def test_every_process_of_a_worker_has_to_be_there(ask: Ask) -> None:
    with worker_port(Health(), closed_port()) as port:
        own = {"XFERQ_METRICS_PORT": str(port), "XFERQ_WORKER_PROCESSES": "2"}
        with pytest.raises(Unavailable, match=f":{port + 1}: "):
            ask(**own)
        with worker_port(Health(), port + 1):
            assert ask(Part.WORKER, **own).count(": ok") == 2


def test_an_api_with_tls_and_passwords(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "users").write_text(LINE)
    server = trustme.CA().issue_cert("xfer.example.com")  # not a name of this machine's
    server.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pem"))
    own = dict.fromkeys(("XFERQ_API_TLS_CERT", "XFERQ_API_TLS_KEY"), str(tmp_path / "pem"))
    own |= {"XFERQ_API_USERS_FILE": str(tmp_path / "users"), "XFERQ_API_LISTEN_HOST": "0.0.0.0"}  # noqa: S104
    own |= {"XFERQ_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    # This machine is trusted, and is told.
    with ApiProcess(environment(own, tmp_path)) as api, pytest.raises(Unavailable, match="Kafka"):
        ask(**own, **port_of(api))
    own |= {"XFERQ_API_TRUSTED_HOSTS": ""}
    with ApiProcess(environment(own, tmp_path)) as api:
        assert "alive" in ask(Part.API, **own, **port_of(api))
        api.end()
        with pytest.raises(Unavailable, match="listens at https:"):
            ask(Part.API, **own, **port_of(api))


def test_its_exit_status_is_what_a_container_goes_by(tmp_path: Path) -> None:
    with worker_port(Health()) as port:
        env = environment({"XFERQ_METRICS_PORT": str(port), "XFERQ_WORKER_PROCESSES": "1"}, tmp_path)
        xferq("health", "worker", env=env)
    assert "listens" in xferq("health", "worker", env=env, status=1).stderr
