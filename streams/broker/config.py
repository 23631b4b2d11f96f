"""The files that a broker reads at its start: server.properties and log4j2.properties."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from streams.broker.ports import LOOPBACK


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """A node's place in its cluster, the same for its whole life but for the controllers' ports."""

    cluster_id: str
    node_id: int
    controllers: Mapping[int, int]  # node id -> controller port, of all nodes
    scratch_dir: Path | None = None  # the cluster's temporary folder, removed if this process dies before

    @property
    def size(self) -> int:
        """Number of nodes in the cluster."""
        return len(self.controllers)


class Route(NamedTuple):
    """A node's second listener for clients, which is reached through a proxy: Kafka names the proxy's port."""

    advertised: int  # loopback port that clients of this listener are told: where the proxy is to listen
    port: int  # loopback port on which the node listens


def server_properties(
    membership: Membership, *, port: int, log_dir: Path, settings: Mapping[str, str], route: Route | None = None
) -> dict[str, str]:
    """Everything in server.properties; settings win over what is set here."""
    replication = min(3, membership.size)
    in_sync = max(1, replication - 1)
    controller_port = membership.controllers[membership.node_id]
    listeners = {"PLAINTEXT": port}
    advertised = dict(listeners)
    if route:
        listeners["RELAYED"], advertised["RELAYED"] = route.port, route.advertised
    voters = ",".join(f"{node}@{LOOPBACK}:{at}" for node, at in sorted(membership.controllers.items()))
    return {
        "process.roles": "broker,controller",
        "node.id": str(membership.node_id),
        "controller.quorum.voters": voters,
        "listeners": _addresses({**listeners, "CONTROLLER": controller_port}),
        "advertised.listeners": _addresses(advertised),
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,RELAYED:PLAINTEXT",
        "log.dirs": str(log_dir),
        # Topics are created by xferq alone; a misspelt name is an error, not a new topic.
        "auto.create.topics.enable": "false",
        "default.replication.factor": str(replication),
        "min.insync.replicas": str(in_sync),
        "offsets.topic.replication.factor": str(replication),
        "transaction.state.log.replication.factor": str(replication),
        "transaction.state.log.min.isr": str(in_sync),
        "share.coordinator.state.topic.replication.factor": str(replication),
        "share.coordinator.state.topic.min.isr": str(in_sync),
        # Few partitions of the internal topics: each is a folder with files to open at every start.
        "offsets.topic.num.partitions": "5",
        "transaction.state.log.num.partitions": "5",
        "share.coordinator.state.topic.num.partitions": "1",
        # A group that is away for a year finds its place again.
        "offsets.retention.minutes": "525600",
        "group.initial.rebalance.delay.ms": "0",
        # 128 MB of the heap by default; this is still room for 700,000 keys in one pass.
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        # A broker that comes back after a crash is let in when its last life's session has run out: 9 s by
        # default. Not much shorter: three nodes on two cores must be able to miss heartbeats.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "500",
        **settings,
    }


def _addresses(ports: Mapping[str, int]) -> str:
    return ",".join(f"{listener}://{LOOPBACK}:{port}" for listener, port in ports.items())


def write_properties(path: Path, properties: Mapping[str, str]) -> None:
    """Write a Java properties file (values here are plain ASCII or paths)."""
    lines = [f"{key}={_escaped(value)}" for key, value in properties.items()]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def _escaped(value: str) -> str:
    """Escape a value as java.util.Properties reads it: backslashes, line ends, anything beyond ASCII."""
    units = memoryview(value.replace("\\", "\\\\").encode("utf-16-be", "surrogatepass")).cast("B")
    codes = [units[i] << 8 | units[i + 1] for i in range(0, len(units), 2)]
    return "".join(chr(code) if 32 <= code < 127 else f"\\u{code:04x}" for code in codes)


def log4j2_properties(log_path: Path) -> dict[str, str]:
    """Log to one file, of at most 16 MB, with one older one kept."""
    return {
        "status": "error",
        "appender.file.type": "RollingFile",
        "appender.file.name": "file",
        "appender.file.fileName": str(log_path),
        "appender.file.filePattern": f"{log_path}.%i",
        "appender.file.layout.type": "PatternLayout",
        "appender.file.layout.pattern": "%d{yyyy-MM-dd HH:mm:ss,SSS} %p %c{1} %m%n",
        "appender.file.policies.type": "Policies",
        "appender.file.policies.size.type": "SizeBasedTriggeringPolicy",
        "appender.file.policies.size.size": "16MB",
        "appender.file.strategy.type": "DefaultRolloverStrategy",
        "appender.file.strategy.max": "1",
        "rootLogger.level": "info",
        "rootLogger.appenderRef.file.ref": "file",
    }
