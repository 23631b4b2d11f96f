"""The manifests in deploy/kubernetes are valid, fit each other, and fit what they deploy."""

import copy
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import trustme
import yaml

from api.address import require_guarded
from api.app import create_app
from api.tls import server_context
from api.users import UsersFile
from streams.domain.ledger_partitions import ledger_width
from streams.kafka.acls import PARTS, acls, user_of
from streams.kafka.layout import read_layout
from streams.kafka.security import Security
from streams.settings.settings import Settings, load_settings
from streams.telemetry.health import Health
from streams.worker.probes import Probes
from tests.api.test_access import LINE
from tests.manifests import KUBERNETES, Manifest, built, containers_of, documents, pod_of, require_valid
from tests.pages import ROOT
from tests.test_deploy import BROKER_IN_README, IMAGE_VERSION, broker_settings, help_of, known_settings

MANIFESTS = built()
STRIMZI = built(KUBERNETES / "strimzi")
CLUSTER = "kafka"
"""The name of Strimzi's Kafka resource."""
TOML = KUBERNETES / "base" / "xferq.toml"
WORKLOADS = {"api": "Deployment", "worker": "StatefulSet"}
OPERATORS_SECRETS = {"xferq-api-users", "xferq-api-tls", "xferq-api-metrics"}
"""What deploy/README.md says how to make."""


def named(manifest: Manifest) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


every_manifest = pytest.mark.parametrize("manifest", [*MANIFESTS, *STRIMZI], ids=named)
both_parts = pytest.mark.parametrize("part", WORKLOADS)


def the(kind: str, name: str) -> Manifest:
    (found,) = (manifest for manifest in MANIFESTS if named(manifest) == f"{kind}/{name}")
    return found


def workload(part: str) -> Manifest:
    return the(WORKLOADS[part], f"xferq-{part}")


def container(part: str) -> dict[str, Any]:
    (only,) = containers_of(workload(part))
    return only


def variables(part: str) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container(part)["env"]}


# ---- as Kubernetes and its operators see it


@every_manifest
def test_it_is_valid(manifest: Manifest) -> None:
    require_valid(manifest)


def test_a_field_that_there_is_not_is_an_error() -> None:
    # Else the schemas would let everything pass, as Kubernetes does.
    for manifest in [*MANIFESTS, *STRIMZI]:
        if "spec" in manifest:
            changed = copy.deepcopy(manifest)
            changed["spec"]["replicass"] = 2
            with pytest.raises(jsonschema.ValidationError, match="replicass"):
                require_valid(changed)
    changed = copy.deepcopy(workload("api"))
    changed["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = "45s"
    with pytest.raises(jsonschema.ValidationError):
        require_valid(changed)


def test_every_file_is_used() -> None:
    used = set()
    for file in KUBERNETES.rglob("kustomization.yaml"):
        layer = yaml.safe_load(file.read_text(encoding="utf-8"))
        generated = [name for generator in layer.get("configMapGenerator", []) for name in generator["files"]]
        used |= {file, *(file.parent / name for name in [*layer.get("resources", []), *generated])}
    assert {file for file in KUBERNETES.rglob("*") if file.is_file()} == {file for file in used if file.is_file()}


def test_names_are_there_once() -> None:
    names = [named(manifest) for manifest in [*MANIFESTS, *STRIMZI]]
    assert len(names) == len(set(names))
    assert {manifest["metadata"]["namespace"] for manifest in [*MANIFESTS, *STRIMZI]} == {"xferq"}


def test_kustomize_itself_builds_the_same() -> None:
    if shutil.which("kustomize"):
        build = ["kustomize", "build"]
    elif shutil.which("kubectl"):
        build = ["kubectl", "kustomize"]
    else:
        pytest.skip("neither kustomize nor kubectl here")
    for folder, ours in ((KUBERNETES, MANIFESTS), (KUBERNETES / "strimzi", STRIMZI)):
        built_by_it = subprocess.run([*build, str(folder)], capture_output=True, text=True, check=True)
        theirs = list(yaml.safe_load_all(re.sub(r"\bxferq-[2-9bcdfghkmt]{10}\b", "xferq", built_by_it.stdout)))
        assert sorted(theirs, key=named) == sorted(ours, key=named)


# ---- settings


def test_every_setting_exists() -> None:
    assert set(tomllib.loads(TOML.read_text(encoding="utf-8"))) <= known_settings()
    for part in WORKLOADS:
        for name in variables(part):
            assert name.removeprefix("XFERQ_").lower() in known_settings() | {"config"}, name


@pytest.fixture
def mounted(tmp_path: Path) -> dict[str, str]:
    """What the secrets hold, where they are mounted: the real path by the one in the container."""
    authority = trustme.CA()
    pair = authority.issue_cert("xferq-api")
    chain = b"".join(pem.bytes() for pem in pair.cert_chain_pems)
    contents = {
        "/etc/xferq/config/xferq.toml": TOML.read_bytes(),
        "/etc/xferq/kafka-ca/ca.crt": authority.cert_pem.bytes(),
        "/etc/xferq/kafka/password": b"secret",
        "/etc/xferq/users/users": LINE.encode(),
        "/etc/xferq/tls/tls.crt": chain,
        "/etc/xferq/tls/tls.key": pair.private_key_pem.bytes(),
    }
    places = {}
    for number, (path, content) in enumerate(contents.items()):
        places[path] = str(tmp_path / str(number))
        Path(places[path]).write_bytes(content)
    toml = Path(places["/etc/xferq/config/xferq.toml"])
    toml.write_text(with_places(toml.read_text(encoding="utf-8"), places), encoding="utf-8")
    return places


def with_places(text: str, places: dict[str, str]) -> str:
    for path, place in places.items():
        text = text.replace(path, place)
    return text


def settings_of(part: str, places: dict[str, str], patch: pytest.MonkeyPatch) -> Settings:
    """What the part's process finds, with the secrets mounted."""
    for name, value in variables(part).items():
        if name == "XFERQ_CONFIG" or name.removeprefix("XFERQ_").lower() in Settings.model_fields:
            patch.setenv(name, with_places(value, places))
    return load_settings()


@both_parts
def test_it_has_all_the_settings_that_it_needs(
    part: str, mounted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(part, mounted, monkeypatch)
    assert settings.bootstrap_servers == "kafka-kafka-bootstrap:9093"
    assert (settings.kafka_security_protocol, settings.kafka_sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-512")
    assert settings.kafka_username == user_of(part)  # type: ignore[arg-type]
    options = Security(settings).librdkafka()  # reads the files, and looks at what goes with what
    assert options["sasl.password"] == "secret"
    if part == "api":
        require_guarded(settings)
        assert server_context(settings) is not None
        assert settings.api_users_file is not None
        UsersFile(settings.api_users_file)
    else:
        assert settings.worker_processes == 1


@both_parts
def test_what_is_read_is_mounted_and_nothing_else(part: str) -> None:
    pod = pod_of(workload(part))
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container(part)["volumeMounts"]}
    assert sorted(mounts.values()) == sorted(volumes)
    files = {value for value in variables(part).values() if value.startswith("/")}
    files |= {value for value in tomllib.loads(TOML.read_text()).values() if str(value).startswith("/")}
    assert {str(Path(file).parent) for file in files} == mounts.keys() - {"/tmp"}  # noqa: S108
    for file in files:
        source = volumes[mounts[str(Path(file).parent)]]
        items = source.get("secret", {}).get("items")
        assert items is None or [Path(file).name] == [item["path"] for item in items]


def test_secrets_are_strimzis_or_those_that_the_readme_makes() -> None:
    users = {manifest["metadata"]["name"] for manifest in STRIMZI if manifest["kind"] == "KafkaUser"}
    readme = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    found = set(re.findall(r'"secretName": "([^"]+)"|"(?:ca|username|password)": \{[^}]*"name": "([^"]+)"', dump()))
    names = {name for pair in found for name in pair if name}
    assert names == {"kafka-cluster-ca-cert", "xferq-api", "xferq-worker"} | OPERATORS_SECRETS
    assert names - OPERATORS_SECRETS - {"kafka-cluster-ca-cert"} <= users
    for name in OPERATORS_SECRETS:
        assert re.search(rf"kubectl --namespace=xferq create secret [^\n]*\b{name}\b", readme), name
    assert not [manifest for manifest in MANIFESTS if manifest["kind"] == "Secret"]


def dump() -> str:
    return json.dumps(MANIFESTS)


# ---- processes


@both_parts
def test_it_runs_what_the_command_line_has_and_the_image_that_is_built(part: str) -> None:
    assert container(part)["args"] == [part]
    help_of(part)
    assert container(part)["image"] == f"registry.example.com/xferq:{IMAGE_VERSION}"
    for file in ("api.yaml", "worker.yaml"):
        for manifest in documents(KUBERNETES / "base" / file):
            assert all(found["image"] == f"xferq:{IMAGE_VERSION}" for found in containers_of(manifest))


@both_parts
def test_it_has_no_more_rights_than_it_needs(part: str) -> None:
    # Kubernetes' own pod security standard `restricted`, and a file system that nothing is written to.
    pod = pod_of(workload(part))
    (uid,) = re.findall(r"(?m)^USER (\d+)", (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8"))
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == int(uid)
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container(part)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()
    assert {"cpu", "memory"} <= container(part)["resources"]["requests"].keys()
    assert "memory" in container(part)["resources"]["limits"]
    assert the("ServiceAccount", pod["serviceAccountName"])["automountServiceAccountToken"] is False


@both_parts
def test_it_has_longer_to_end_than_a_transaction_may_last(
    part: str, mounted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    grace_s = pod_of(workload(part))["terminationGracePeriodSeconds"]
    assert grace_s > settings_of(part, mounted, monkeypatch).transaction_timeout_ms / 1000 + 10


@both_parts
def test_ports_and_probes_are_where_it_listens(part: str) -> None:
    own = variables(part)
    port = own["XFERQ_API_LISTEN_PORT" if part == "api" else "XFERQ_METRICS_PORT"]
    host = own["XFERQ_API_LISTEN_HOST" if part == "api" else "XFERQ_METRICS_HOST"]
    assert host == "0.0.0.0"  # noqa: S104
    (declared,) = container(part)["ports"]
    assert str(declared["containerPort"]) == port
    (service,) = the("Service", f"xferq-{part}")["spec"]["ports"]
    assert service["targetPort"] == declared["name"]
    assert str(service["port"]) == port
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container(part)[kind]
        if "httpGet" not in probe:
            assert probe["exec"]["command"] == ["xferq", "health", part]
            # A second of a core, with a share of it alone, within half of what the probe may take.
            cpu = container(part)["resources"]["requests"]["cpu"]
            assert int(cpu.removesuffix("m")) / 1000 * probe["timeoutSeconds"] / 2 >= 1
            help_of("health")
            assert kind == "readinessProbe"
            continue
        asked = probe["httpGet"]
        assert asked["port"] == declared["name"]
        assert asked.get("scheme") == ("HTTPS" if part == "api" else None)
        assert asked["path"] == ("/readyz" if kind == "readinessProbe" else "/livez")
        assert exists(part, asked["path"]), asked["path"]
    # It isn't killed for being slow, nor for what a restart doesn't help against.
    assert container(part)["livenessProbe"]["periodSeconds"] * container(part)["livenessProbe"]["failureThreshold"] > 30


def exists(part: str, path: str) -> bool:
    """Whether a part answers on this path, and that without a password."""
    if part == "api":
        answers = create_app(Settings(bootstrap_servers="127.0.0.1:1")).openapi()["paths"][path]["get"]["responses"]
        return "200" in answers and "401" not in answers
    said: list[str] = []
    Probes(Health())({"PATH_INFO": path}, lambda status, headers: said.append(status))
    return said == ["200 OK"]


def test_selectors_select_what_they_are_for() -> None:
    for part in WORKLOADS:
        labels = workload(part)["spec"]["template"]["metadata"]["labels"]
        assert labels["app.kubernetes.io/component"] == part
        for selector in (
            workload(part)["spec"]["selector"]["matchLabels"],
            the("Service", f"xferq-{part}")["spec"]["selector"],
            the("PodDisruptionBudget", f"xferq-{part}")["spec"]["selector"]["matchLabels"],
            the("PodMonitor", f"xferq-{part}")["spec"]["selector"]["matchLabels"],
        ):
            assert selector == labels
        budget = the("PodDisruptionBudget", f"xferq-{part}")["spec"]
        assert budget["maxUnavailable"] == 1
        # While Kafka is away none is ready: nodes, Kafka's among them, have to be drained all the same.
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        (endpoint,) = the("PodMonitor", f"xferq-{part}")["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] == container(part)["ports"][0]["name"]
        assert endpoint.get("scheme") == ("https" if part == "api" else None)
    assert workload("worker")["spec"]["serviceName"] == "xferq-worker"
    assert the("Service", "xferq-worker")["spec"]["clusterIP"] == "None"


def test_nobody_gets_through_but_those_who_have_to() -> None:
    everything = the("NetworkPolicy", "xferq")["spec"]
    assert sorted(everything["policyTypes"]) == ["Egress", "Ingress"]
    assert "ingress" not in everything
    assert [[port["port"] for port in rule["ports"]] for rule in everything["egress"]] == [[53, 53], [9093]]
    for part in WORKLOADS:
        labels = workload(part)["spec"]["template"]["metadata"]["labels"].items()
        assert everything["podSelector"]["matchLabels"].items() <= labels
    for name, ports in (("xferq-api", [8000]), ("xferq-metrics", [8000, 8001])):
        (rule,) = the("NetworkPolicy", name)["spec"]["ingress"]
        assert [port["port"] for port in rule["ports"]] == ports
        assert rule["from"]
        assert all(peer.get("podSelector") or peer.get("namespaceSelector") for peer in rule["from"])
    # Strimzi's brokers, by the labels that it gives them, on the port of the bootstrap server.
    (kafka,) = everything["egress"][1]["to"]
    clusters = {manifest["metadata"]["labels"]["strimzi.io/cluster"] for manifest in STRIMZI}
    assert clusters == {kafka["podSelector"]["matchLabels"]["strimzi.io/cluster"]} == {CLUSTER}
    servers = tomllib.loads(TOML.read_text(encoding="utf-8"))["bootstrap_servers"]
    assert servers == f"{CLUSTER}-kafka-bootstrap:9093"


def test_workers_grow_with_what_is_claimed_and_not_drained() -> None:
    scaled = the("ScaledObject", "xferq-worker")["spec"]
    target = workload("worker")
    assert scaled["scaleTargetRef"] == {
        "apiVersion": target["apiVersion"],
        "kind": target["kind"],
        "name": target["metadata"]["name"],
    }
    assert "replicas" not in target["spec"]
    assert scaled["minReplicaCount"] == 2
    defaults = Settings()
    assert scaled["maxReplicaCount"] <= min(defaults.commands_partitions, defaults.drains_partitions)
    (trigger,) = scaled["triggers"]
    query = trigger["metadata"]["query"]
    (metric,) = re.findall(r"xferq_\w+", query)
    assert metric == "xferq_undrained_messages"
    assert f'"{metric}"' in (ROOT / "streams" / "telemetry" / "metrics.py").read_text()
    assert f'namespace="{target["metadata"]["namespace"]}"' in query
    (peer,) = the("NetworkPolicy", "xferq-metrics")["spec"]["ingress"][0]["from"]
    namespace = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    assert f".{namespace}.svc" in trigger["metadata"]["serverAddress"]


# ---- Strimzi's


def test_the_topics_are_those_of_the_topics_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XFERQ_CONFIG", str(TOML))
    settings, layout = load_settings(), read_layout(ROOT / "deploy" / "topics.toml")
    found = {manifest["spec"]["topicName"]: manifest for manifest in STRIMZI if manifest["kind"] == "KafkaTopic"}
    assert found.keys() == {
        settings.commands_topic,
        settings.drains_topic,
        settings.ledger_topic,
        settings.log_topic,
        settings.results_topic,
    }
    for role in ("commands", "drains", "ledger", "log", "results"):
        spec = found[getattr(settings, f"{role}_topic")]["spec"]
        count = getattr(settings, f"{role}_partitions")
        assert spec["partitions"] == (ledger_width(count) if role == "ledger" else count)
        assert spec["replicas"] == 3
        assert {key: str(value) for key, value in spec["config"].items()} == layout.config[role]


def test_the_users_may_do_just_what_is_needed() -> None:
    found = {manifest["metadata"]["name"]: manifest["spec"] for manifest in STRIMZI if manifest["kind"] == "KafkaUser"}
    assert found.keys() == {user_of(part) for part in PARTS}
    for part in PARTS:
        spec = found[user_of(part)]
        assert spec["authentication"] == {"type": "scram-sha-512"}
        assert spec["authorization"]["type"] == "simple"
        granted = [
            (rule["resource"]["type"], rule["resource"]["name"], rule["resource"]["patternType"], operation)
            for rule in spec["authorization"]["acls"]
            for operation in rule["operations"]
        ]
        wanted = [
            (
                {"transactional-id": "transactionalId"}.get(acl.resource, acl.resource),
                acl.name,
                "prefix" if acl.is_prefix else "literal",
                acl.operation,
            )
            for acl in acls(Settings())
            if acl.part == part
        ]
        assert sorted(granted) == sorted(wanted)
        assert len(granted) == len(set(granted))


def test_the_readme_asks_for_a_kafka_that_fits() -> None:
    kafka = BROKER_IN_README["spec"]["kafka"]
    assert BROKER_IN_README["metadata"] == {"name": CLUSTER, "namespace": "xferq"}
    assert kafka["authorization"] == {"type": "simple"}
    (listener,) = kafka["listeners"]
    assert (listener["port"], listener["tls"], listener["authentication"]) == (9093, True, {"type": "scram-sha-512"})
    compose = broker_settings("kafka-1")
    for name, value in kafka["config"].items():
        assert compose[name] == str(value).lower(), name
    assert kafka["config"].keys() >= {"min.insync.replicas", "offsets.retention.minutes", "auto.create.topics.enable"}
