"""Three nodes that let in nobody without a password, over TLS, and permit nothing but what an ACL says.

Among themselves, and with who looks on, they talk on a plain listener, where everything is permitted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streams.broker import EmbeddedCluster
from streams.broker.ports import LOOPBACK, free_ports
from tests.broker.secured import Certificates, certificates

ADMIN = "admin"
_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule"


class SecuredCluster(EmbeddedCluster):
    """`secured_servers` is for clients; its certificates are in `files`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(3, heap_mb=256)
        self.files: Certificates = certificates(folder)
        self._ports: list[int] = []

    @property
    def secured_servers(self) -> str:
        """`host:port` of every node's listener for SASL_SSL."""
        return ",".join(f"{LOOPBACK}:{port}" for port in self._ports)

    def _lay_out(self) -> None:
        super()._lay_out()
        self._ports = free_ports(len(self._nodes))
        for node, port in zip(self._nodes, self._ports, strict=True):
            addresses = f"PLAINTEXT://{LOOPBACK}:{node.port},SASLTLS://{LOOPBACK}:{port}"
            node._settings |= {
                "listeners": f"{addresses},CONTROLLER://{LOOPBACK}:{node._controller_port}",
                "advertised.listeners": addresses,
                "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASLTLS:SASL_SSL",
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": f"User:ANONYMOUS;User:{ADMIN}",
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": str(self.files.folder / "broker.both.pem"),
                "listener.name.sasltls.sasl.enabled.mechanisms": "SCRAM-SHA-512",
                "listener.name.sasltls.scram-sha-512.sasl.jaas.config": f"{_MODULE} required;",
            }


@contextmanager
def secured_cluster(folder: Path) -> Iterator[SecuredCluster]:
    """Run such a cluster; `folder` is for its certificates."""
    with SecuredCluster(folder) as running:
        yield running
