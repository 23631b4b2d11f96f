"""What stands in deploy/ fits what it deploys."""

import asyncio
import ipaddress
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from api.address import require_guarded
from api.app import create_app
from api.tls import server_context
from streams.broker import EmbeddedBroker, EmbeddedCluster
from streams.broker.jars import KAFKA_VERSION
from streams.errors import Misconfigured
from streams.kafka.connection import Connection
from streams.kafka.layout import apply_layout, read_layout
from streams.kafka.topics import QUEUE_CONFIG, Topics
from streams.settings.settings import Settings, load_settings
from streams.settings.sources import NOT_SETTINGS, variable
from tests.api.running import running
from tests.api.test_access import LINE
from tests.support.names import own_name
from tests.support.patience import WAIT_S

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE_FILE = DEPLOY / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
IMAGE_VERSION: str = _PROJECT["tool"]["setuptools_scm"]["fallback_version"].removesuffix(".dev0")
NODES = ["kafka-1", "kafka-2", "kafka-3"]
OURS = ["topics", "api", "api-tls", "worker"]
WATCHING = ["prometheus", "grafana"]
(BROKER_IN_README,) = map(
    yaml.safe_load, re.findall(r"(?ms)^```yaml\n(.*?)^```$", (DEPLOY / "README.md").read_text(encoding="utf-8"))
)


def known_settings() -> set[str]:
    """The names of all settings, in lower case."""
    return set(Settings.model_fields)


def seconds(text: str) -> int:
    assert text.endswith("s")
    return int(text[:-1])


def broker_settings(service: str) -> dict[str, str]:
    """A node's server.properties, as its image makes them of the environment."""
    return {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in SERVICES[service]["environment"].items()
        if name.startswith("KAFKA_")
    }


def test_the_services_are_those() -> None:
    assert sorted(SERVICES) == sorted([*NODES, *OURS, *WATCHING])


@pytest.mark.parametrize("node", NODES)
def test_kafka_loses_nothing_with_one_node_away(node: str) -> None:
    settings = broker_settings(node)
    for replicated in (
        "default.replication.factor",
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
    ):
        assert settings[replicated] == "3"
    assert settings["min.insync.replicas"] == settings["transaction.state.log.min.isr"] == "2"
    assert settings["unclean.leader.election.enable"] == "false"
    assert settings["auto.create.topics.enable"] == "false"
    assert int(settings["offsets.retention.minutes"]) >= 365 * 24 * 60


def test_the_nodes_are_one_cluster_and_keep_what_they_have() -> None:
    voters = {f"{broker_settings(node)['node.id']}@{node}:9093" for node in NODES}
    for node in NODES:
        assert set(broker_settings(node)["controller.quorum.voters"].split(",")) == voters
        assert broker_settings(node)["process.roles"] == "broker,controller"
        volume, _, folder = SERVICES[node]["volumes"][0].partition(":")
        assert volume in COMPOSE["volumes"]
        assert folder == broker_settings(node)["log.dirs"]
        assert SERVICES[node]["image"] == f"apache/kafka:{KAFKA_VERSION}"  # the version that the tests run on
    assert len({broker_settings(node)["node.id"] for node in NODES}) == 3
    assert len({SERVICES[node]["environment"]["CLUSTER_ID"] for node in NODES}) == 1
    assert len({SERVICES[node]["volumes"][0] for node in NODES}) == 3


@pytest.mark.parametrize("node", NODES)
def test_what_a_node_tells_the_host_is_where_the_host_finds_it(node: str) -> None:
    settings = broker_settings(node)
    advertised = dict(entry.split("://") for entry in settings["advertised.listeners"].split(","))
    listeners = dict(entry.split("://") for entry in settings["listeners"].split(","))
    assert advertised["PLAINTEXT"] == node + listeners["PLAINTEXT"]
    assert SERVICES[node]["ports"] == [advertised["HOST"] + listeners["HOST"]]


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_is_published_but_on_loopback_or_with_passwords(service: str) -> None:
    for port in SERVICES[service].get("ports", []):
        assert port.startswith("127.0.0.1:") or service == "api-tls", port
    assert "network_mode" not in SERVICES[service]


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_is_of_a_version(service: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", SERVICES[service]["image"])


def test_the_api_is_where_the_readme_says() -> None:
    assert SERVICES["api"]["ports"] == ["127.0.0.1:8000:8000"]


def test_there_are_two_workers_and_time_to_end_them_cleanly() -> None:
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    assert seconds(SERVICES["worker"]["stop_grace_period"]) > Settings().transaction_timeout_ms / 1000 + 10
    assert SERVICES["worker"]["restart"] == "unless-stopped"


def test_topics_are_made_once_kafka_is_there_and_before_anybody_needs_them() -> None:
    assert SERVICES["topics"]["restart"] == "on-failure"
    assert {name: wait["condition"] for name, wait in SERVICES["topics"]["depends_on"].items()} == dict.fromkeys(
        NODES, "service_healthy"
    )
    for service in ("api", "api-tls", "worker"):
        assert SERVICES[service]["depends_on"] == {"topics": {"condition": "service_completed_successfully"}}
    for service in (*NODES, "prometheus"):
        assert SERVICES[service]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("service", ["api", "api-tls", "worker"])
def test_whether_it_is_well_is_asked_of_what_runs_there(service: str) -> None:
    kind, program, *arguments = SERVICES[service]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "xferq")
    assert arguments == ["health", *SERVICES[service]["command"]]
    help_of("health")
    # `topics` runs once: it has no port.
    assert SERVICES["topics"]["healthcheck"] == {"disable": True}


@pytest.mark.parametrize("service", OURS)
def test_ours_run_the_image_with_no_more_rights_than_they_need(service: str) -> None:
    definition = SERVICES[service]
    assert definition["build"] == {"context": "..", "dockerfile": "deploy/Dockerfile"}
    assert (DEPLOY / definition["build"]["context"] / definition["build"]["dockerfile"]).resolve().exists()
    assert definition["read_only"]
    assert definition["init"]
    assert definition["cap_drop"] == ["ALL"]
    servers = definition["environment"]["XFERQ_BOOTSTRAP_SERVERS"].split(",")
    assert servers == [f"{node}:9092" for node in NODES]


@pytest.mark.parametrize("service", OURS)
def test_the_command_line_takes_what_the_service_runs(service: str) -> None:
    command, *options = SERVICES[service]["command"]
    offered = help_of(command)
    for option in options:
        if option.startswith("--"):
            assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", offered), option


def settings_of(service: str, patch: pytest.MonkeyPatch, **places: str) -> Settings:
    """What the service's process finds; `places` are secrets, by their names without what comes after the dot."""
    for name, value in SERVICES[service]["environment"].items():
        if name.removeprefix("XFERQ_").lower() in Settings.model_fields:
            secret = value.removeprefix("/run/secrets/").partition(".")[0]
            patch.setenv(name, places[secret] if value.startswith("/run/secrets/") else value)
    return load_settings()


async def test_the_api_lets_in_this_machine_and_prometheus_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of("api", monkeypatch)
    require_guarded(settings)
    assert "--unprotected" not in SERVICES["api"]["command"]
    (network,) = COMPOSE["networks"]["default"]["ipam"]["config"]
    assert SERVICES["api"].get("networks") is None
    prometheus = SERVICES["prometheus"]["networks"]["default"]["ipv4_address"]
    others = ipaddress.ip_network(network["ip_range"])
    assert others.subnet_of(ipaddress.ip_network(network["subnet"]))
    assert not {ipaddress.ip_address(network["gateway"]), ipaddress.ip_address(prometheus)} & set(others)
    for address, host, status in (
        (network["gateway"], "127.0.0.1:8000", 503),  # there is no Kafka here
        ("127.0.0.1", "127.0.0.1:8000", 503),
        (prometheus, "api:8000", 503),
        (prometheus, "rebound.example:8000", 421),
        (str(others[5]), "api:8000", 401),
        (str(others[5]), "127.0.0.1:8000", 401),
    ):
        app = create_app(settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"}))
        async with running(app, is_ready=False, address=address) as client:
            answer = await client.get("/readyz", headers={"Host": host})
        assert answer.status_code == status, (address, host, answer.text)


def test_the_other_api_asks_for_passwords_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {name: Path(secret["file"]) for name, secret in COMPOSE["secrets"].items()}
    assert sorted(secrets) == sorted(SERVICES["api-tls"]["secrets"])
    for name, file in secrets.items():
        assert str(file) == f"secrets/{name}"
    assert SERVICES["api-tls"]["profiles"] == ["tls"]  # up without it needs none of the files
    pair = trustme.CA().issue_cert("xferq.example.com")
    pair.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pem"))
    (tmp_path / "users").write_text(LINE)
    pem = str(tmp_path / "pem")
    settings = settings_of("api-tls", monkeypatch, users=str(tmp_path / "users"), cert=pem, key=pem)
    require_guarded(settings)
    assert server_context(settings) is not None
    assert all(network.is_loopback for network in settings.api_trusted_hosts)


def test_prometheus_and_grafana_read_files_that_are_there() -> None:
    for service in WATCHING:
        binds = [volume.split(":") for volume in SERVICES[service]["volumes"] if volume.startswith("./")]
        assert binds
        for source, _, mode in binds:
            assert mode == "ro"
            assert (DEPLOY / source).exists(), source
    named = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert {name for name in named if not name.startswith("./")} == COMPOSE["volumes"].keys()


def xferq(*arguments: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
    result = subprocess.run(
        [str(Path(sys.executable).parent / "xferq"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
    )
    assert result.returncode == status, result.stderr
    return result


@cache
def help_of(command: str) -> str:
    """What the command line says about a command that it has."""
    return xferq(command, "--help").stdout


def test_every_setting_named_in_deploy_exists() -> None:
    known = {variable(name) for name in known_settings()} | NOT_SETTINGS
    for file in sorted(DEPLOY.rglob("*")):
        if file.is_file():
            for name in re.findall(r"XFERQ_[A-Z0-9]+(?:_[A-Z0-9]+)*", file.read_text(encoding="utf-8")):
                assert name in known, f"{file.name}: {name}"


@pytest.mark.parametrize("service", OURS)
def test_the_settings_are_valid(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    places = dict.fromkeys(("users", "cert", "key"), "/nowhere")
    settings = settings_of(service, monkeypatch, **places)
    assert settings.replication_factor == 3
    assert settings.bootstrap_servers.startswith("kafka-1:")


def dockerfile() -> list[tuple[str, str]]:
    """Its instructions, the last stage's only."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", text)).splitlines()
    instructions = [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines) if word]
    stages = [index for index, (word, _) in enumerate(instructions) if word == "FROM"]
    return instructions[stages[-1] :]


def test_the_image_runs_our_command_as_somebody_without_rights() -> None:
    instructions = dict(dockerfile())
    assert json.loads(instructions["ENTRYPOINT"]) == ["xferq"]
    xferq(*json.loads(instructions["CMD"]))
    # A number: Kubernetes' runAsNonRoot asks for one.
    uid, gid = instructions["USER"].split(":")
    (made,) = (rest for word, rest in dockerfile() if word == "RUN")
    assert f"groupadd --gid {gid} xferq" in made
    assert re.search(rf"useradd --uid {uid} --gid xferq .* xferq$", made)
    assert int(uid) > 0
    assert re.findall(r"ARG VERSION=(.+)", (DEPLOY / "Dockerfile").read_text(encoding="utf-8")) == [IMAGE_VERSION] * 2
    assert 'version="$VERSION"' in instructions["LABEL"]
    assert SERVICES["api"]["image"] == f"xferq:{IMAGE_VERSION}"
    assert "PYTHONOPTIMIZE" not in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def test_the_image_has_a_health_check_of_its_own() -> None:
    _, command = dict(dockerfile())["HEALTHCHECK"].split("CMD ")
    assert json.loads(command) == ["xferq", "health"]


def test_hadolint_finds_nothing() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    result = subprocess.run(
        [linter, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False, timeout=WAIT_S
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout == ""


def test_the_image_is_made_of_files_that_are_there_and_let_in() -> None:
    let_in = {
        line[1:]
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copied = set()
    for line in (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines():
        if line.startswith("COPY ") and "--from=" not in line:
            copied.update(name.removeprefix("./") for name in shlex.split(line)[1:-1])
    assert copied == let_in
    for name in copied:
        assert (ROOT / name).exists(), name
    # All that pip needs, and the file that the topics service applies.
    assert {"pyproject.toml", "README.md", "LICENSE", "streams", "api"} <= copied
    target = next(rest.split()[1] for word, rest in dockerfile() if word == "COPY" and "topics.toml" in rest)
    assert SERVICES["topics"]["command"] == ["topics", "--file", target]


def test_the_layout_has_a_table_for_each_kind_of_topic_and_keeps_what_queues_hold() -> None:
    layout = read_layout(DEPLOY / "topics.toml")
    assert sorted(layout.config) == ["commands", "drains", "ledger", "log", "queues", "results"]
    for role, config in layout.config.items():
        assert config["min.insync.replicas"] == "2", role
    assert layout.config["queues"].items() >= QUEUE_CONFIG.items()
    # Written out, not left to what the code says.
    text = (DEPLOY / "topics.toml").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^\[(\w+)\]$", text) == ["commands", "drains", "ledger", "log", "results", "queues"]
    assert text.count('"cleanup.policy"') == 6


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('"retention.ms" = -1', '"retention.ms" = 604800000'),
        ('"retention.bytes" = -1', '"retention.bytes" = 1000000000'),
        ('"cleanup.policy" = "compact"\n"segment.bytes"', '"cleanup.policy" = "delete"\n"segment.bytes"'),
    ],
)
def test_a_layout_that_would_lose_something_is_refused(good: str, bad: str, tmp_path: Path) -> None:
    text = (DEPLOY / "topics.toml").read_text(encoding="utf-8")
    assert text.count(good) == 1
    changed = tmp_path / "topics.toml"
    changed.write_text(text.replace(good, bad), encoding="utf-8")
    with pytest.raises(Misconfigured, match="must be"):
        read_layout(changed)


async def test_the_layout_goes_onto_a_cluster_of_three(cluster: EmbeddedCluster) -> None:
    own = own_name()
    settings = Settings(
        bootstrap_servers=cluster.bootstrap_servers,
        replication_factor=3,
        commands_topic=f"{own}.commands",
        drains_topic=f"{own}.drains",
        ledger_topic=f"{own}.ledger",
        log_topic=f"{own}.log",
        commands_partitions=2,
        drains_partitions=2,
        ledger_partitions=2,
        log_partitions=2,
    )
    connection = Connection(settings)
    topics = Topics(connection)
    layout = read_layout(DEPLOY / "topics.toml")
    names = {
        "commands": settings.commands_topic,
        "drains": settings.drains_topic,
        "ledger": settings.ledger_topic,
        "log": settings.log_topic,
        "queues": f"queue.{own}.example.com",
    }
    try:
        assert await topics.create({names["queues"]: 1}, {"retention.ms": "1000000"}, 3) == {}
        await listed(topics, {names["queues"]})
        reports = {report.topic: report.outcome for report in await apply_layout(connection, settings, layout)}
        assert {name: reports[name] for name in names.values()} == {
            names["queues"]: "changed",
            **{names[role]: "created" for role in ("commands", "drains", "ledger", "log")},
        }
        await listed(topics, set(names.values()))
        for role, name in names.items():
            there = await topics.config(name)
            for key, value in layout.config[role].items():
                assert float_or_text(there[key]) == float_or_text(value), f"{name}: {key}"
        again = {report.topic: report.outcome for report in await apply_layout(connection, settings, layout)}
        assert {again[name] for name in names.values()} == {"ok"}
    finally:
        await topics.delete(list(names.values()))
        await connection.close()


async def listed(topics: Topics, names: set[str]) -> None:
    """Every node of a cluster learns of a new topic a little later, and any of them may be asked."""
    sightings = 0
    for _ in range(200):
        sightings = sightings + 1 if names <= set(await topics.names()) else 0
        if sightings == 5:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"not listed: {names}")


def float_or_text(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def test_every_broker_setting_is_one_of_kafkas(broker: EmbeddedBroker) -> None:
    # Kafka itself passes over names that it doesn't know.
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    node = next(iter(admin.list_topics(timeout=WAIT_S).brokers))
    resource = ConfigResource(ResourceType.BROKER, str(node))
    known = admin.describe_configs([resource], request_timeout=WAIT_S)[resource].result(WAIT_S)
    for service in NODES:
        assert broker_settings(service).keys() <= known.keys()


def compose_client() -> list[str] | None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            try:
                if (
                    subprocess.run([*command, "version"], capture_output=True, check=False, timeout=WAIT_S).returncode
                    == 0
                ):
                    return command
            except OSError:
                continue
    return None


def test_compose_itself_takes_the_file() -> None:
    client = compose_client()
    if client is None:
        pytest.skip("no docker client with compose here")
    result = subprocess.run(
        [*client, "-f", str(COMPOSE_FILE), "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        timeout=WAIT_S,
    )
    assert result.returncode == 0, result.stderr
