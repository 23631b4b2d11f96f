"""Starting with no Kafka, a wrong one, one that wants a login, no topics or wrong ones: what is said and done then."""

import asyncio
import os
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from api.app import create_app
from streams.broker import EmbeddedBroker
from streams.broker.ports import free_ports
from streams.errors import Unavailable
from streams.kafka.connection import Connection
from streams.kafka.reachable import require_reachable
from streams.settings.settings import Settings
from streams.telemetry.health import Health
from streams.worker.probes import Probes
from tests.api.processes import environment, xferq
from tests.api.running import running as serving
from tests.api.running import until_missing, until_ready
from tests.broker.scene import Scene, wait_until
from tests.broker.secured import Secured
from tests.support.patience import WAIT_S
from tests.support.warm import WarmPopen

pytestmark = pytest.mark.nodes


async def reach(servers: str) -> None:
    """See that one of them is a Kafka that lets anybody in."""
    await require_reachable(Connection(Settings(bootstrap_servers=servers)))


# ---- what is not a Kafka for us


@pytest.fixture
async def stranger(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """An address where something else answers: nothing at all, or always the same before it hangs up."""
    answer: bytes | None = request.param

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1 << 16):
            if answer is not None:
                writer.write(answer)
                break
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


@pytest.mark.parametrize(
    ("stranger", "why"),
    [
        (None, "connected, but no answer within 5 s"),
        (b"", "it closes the connection: it may want TLS"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers is not Kafka"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "it wants TLS"),  # a TLS alert
        (b"\xff" * 64, "what answers is not Kafka"),
    ],
    ids=["silent", "hangs up", "http", "tls", "garbage"],
    indirect=["stranger"],
)
async def test_who_is_no_kafka_is_told_from_one(stranger: str, why: str) -> None:
    with pytest.raises(Unavailable) as caught:
        await reach(stranger)
    assert str(caught.value).startswith(f"can't reach Kafka at {stranger}: {why}")
    wants_tls = why.endswith("TLS")
    setting = "XFERQ_KAFKA_SECURITY_PROTOCOL is PLAINTEXT" if wants_tls else "(XFERQ_BOOTSTRAP_SERVERS)"
    assert setting in str(caught.value)


async def test_a_host_that_is_none() -> None:
    with pytest.raises(Unavailable, match="XFERQ_BOOTSTRAP_SERVERS"):
        await reach("no.such.invalid:1")


async def test_one_that_answers_among_others_is_enough(broker: EmbeddedBroker) -> None:
    await reach(f"127.0.0.1:1,{broker.bootstrap_servers}")


# ---- a login


async def test_a_kafka_that_wants_a_login(secured: Secured, tmp_path: Path) -> None:
    """It may be let in later: worker and api wait, and the command line says why."""
    address = secured.address("SASL")
    why = f"can't reach Kafka at {address}: it closes the connection: it wants a login"
    await reach(secured.plain)
    with pytest.raises(Unavailable):
        await reach(address)
    ended = xferq("queues", env=environment({"XFERQ_BOOTSTRAP_SERVERS": address}, tmp_path), status=1)
    assert ended.stderr.strip().startswith(f"xferq: {why}")
    values: dict[str, Any] = {"bootstrap_servers": address}
    async with serving(create_app(Settings(**values)), is_ready=False) as client:
        await until_missing(client, why)
    worker = Scene(address).worker()
    try:
        worker.waits_for(why)
    finally:
        worker.close()


# ---- topics


def configure(scene: Scene, topic: str, key: str, value: str) -> None:
    """Change a topic's setting, and wait until it is in force."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    change = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    changed = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
    scene.admin.incremental_alter_configs([changed])[changed].result(WAIT_S)
    wait_until(lambda: scene.admin.describe_configs([resource])[resource].result(WAIT_S)[key].value == value)


@pytest.mark.parametrize(
    ("role", "key", "value"), [("ledger", "cleanup.policy", "delete"), ("commands", "cleanup.policy", "compact")]
)
async def test_a_topic_that_would_lose_records(
    broker: EmbeddedBroker, tmp_path: Path, role: str, key: str, value: str
) -> None:
    with Scene(broker.bootstrap_servers) as scene:
        topic = getattr(scene.settings, f"{role}_topic")
        configure(scene, topic, key, value)
        right = "compact" if value == "delete" else "delete"
        why = f"topic {topic} (XFERQ_{role.upper()}_TOPIC): {key} is {value}, must be {right}"
        worker = scene.worker()
        assert worker.wait() == 1
        assert why in worker.log
        assert "`xferq topics`" in worker.log
        assert "Traceback" not in worker.log
        variables = {f"XFERQ_{name.upper()}": str(value) for name, value in scene.values.items()}
        env = environment(variables, tmp_path)
        async with serving(create_app(scene.settings), is_ready=False) as client:
            await until_missing(client, why)
            looked = await asyncio.to_thread(xferq, "topics", "--check", env=env, status=1)
            assert f"{key} is {value}, should be {right}" in looked.stdout
            await asyncio.to_thread(xferq, "topics", env=env)  # as it was said
            await until_ready(client)
        scene.worker().started()


def test_a_queue_from_which_kafka_may_drop_messages_is_named(running: EmbeddedBroker) -> None:
    # Where no other test's queues are: the log names one, and says how many there are.
    with Scene(running.bootstrap_servers) as scene:
        configure(scene, scene.topic, "retention.ms", "86400000")
        worker = scene.worker().started()
        worker.says("worker.unsafe_queues")
        assert "should be -1" in worker.log
        scene.put(40)
        scene.cancel("a")
        scene.done()  # all the same: it is one queue among many


def test_workers_of_a_version_that_must_not_run_beside_it_are_waited_for(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers) as scene:
        options = {"bootstrap.servers": scene.servers, "group.id": scene.settings.worker_group, "log_level": 0}
        earlier = Consumer(options | {"partition.assignment.strategy": "roundrobin"})
        earlier.subscribe([scene.settings.commands_topic])
        wait_until(lambda: earlier.poll(0.1) is None and bool(earlier.assignment()))
        worker = scene.worker()
        worker.says(f"1 workers of another version are in group {scene.settings.worker_group}")
        assert "worker.assigned" not in worker.log
        earlier.close()
        worker.started()
        scene.worker().started()  # of the same version


def test_what_no_start_can_mend_ends_the_worker_however_late_it_is_found(
    running: EmbeddedBroker, tmp_path: Path
) -> None:
    """Kafka comes long after the worker, and without its topics: it is not tried for ever."""
    scene = Scene(running.bootstrap_servers)
    running.stop()
    variables = {f"XFERQ_{name.upper()}": str(value) for name, value in scene.values.items()}
    log = tmp_path / "log"
    program = "import sys; from streams.worker.supervisor import run_workers; "
    program += "from streams.settings.settings import load_settings; "
    with log.open("w") as out:
        process = WarmPopen(
            [sys.executable, "-c", f"{program} sys.exit(run_workers(load_settings()))"],
            env={**os.environ, **variables, "XFERQ_WORKER_PROCESSES": "1"},
            stderr=out,
        )
    try:
        wait_until(lambda: "worker.waiting" in log.read_text())
        running.start()
        assert process.wait(WAIT_S) == 1
        assert f"topic {scene.settings.commands_topic} (XFERQ_COMMANDS_TOPIC) does not exist" in log.read_text()
        assert "supervisor.replaced" not in log.read_text()
    finally:
        process.kill()
        process.wait()


# ---- what a worker says meanwhile


def test_a_worker_that_waits_for_kafka_is_alive_and_not_ready(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    worker = Scene("127.0.0.1:1").worker(metrics_port=port)
    try:
        wait_until(lambda: "Connection refused" in _curl(port, "/readyz"))
        assert _curl(port, "/readyz").startswith("503")
        assert _curl(port, "/livez").startswith("200")
        assert "xferq_stalled 1.0" in _curl(port, "/metrics")
        assert _curl(port, "/").startswith("404")
        worker.terminate()
        assert worker.wait() == 0
    finally:
        worker.close()


def test_an_event_loop_that_stands_still_is_not_alive() -> None:
    probes = Probes(Health())
    said: list[str] = []

    def ask(path: str) -> bytes:
        said.clear()
        return b"".join(probes({"PATH_INFO": path, "REQUEST_METHOD": "GET"}, lambda status, _: said.append(status)))

    ask("/livez")
    assert said == ["200 OK"]
    probes._turned -= 31
    assert b"the event loop stands still for 31 s" in ask("/livez")
    assert said == ["503 Service Unavailable"]
    assert b"stands still" in ask("/readyz")
    ask("/metrics")
    assert said == ["200 OK"]
    probes.turn()
    ask("/livez")
    assert said == ["200 OK"]


def _curl(port: int, path: str) -> str:
    """Status and body; empty while nothing listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=WAIT_S) as answer:
            return f"{answer.status} {answer.read().decode()}"
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"
    except OSError:
        return ""
