"""A Kafka that asks who one is, in every way that xferq knows; and the settings of somebody whom it lets in.

Its four listeners are one broker's. The tests themselves look on through the plain one, where nobody has to log in and
everything is permitted.
"""

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives import serialization

from streams.broker import EmbeddedBroker
from streams.broker.ports import free_ports
from tests.support.patience import WAIT_S

SECRET = "hunter2 = \"4%'\\"  # noqa: S105 - of nothing
KEY_PASSWORD = "open sesame"  # noqa: S105 - of nothing
USERS = ("mailer", "api", "worker", "operator", "dispatcher", "reader")
SUPER_USER = "mailer"
"""Whom the broker permits everything; all others nothing but what an ACL says."""
_PROTOCOLS = {"PLAINTEXT": "PLAINTEXT", "SASL": "SASL_PLAINTEXT", "TLS": "SSL", "SASLTLS": "SASL_SSL"}
_MODULES = {
    "plain": "plain.PlainLoginModule",
    "scram-sha-256": "scram.ScramLoginModule",
    "scram-sha-512": "scram.ScramLoginModule",
    "oauthbearer": "oauthbearer.OAuthBearerLoginModule",
}


@dataclass(frozen=True, slots=True)
class Certificates:
    """An authority, a broker's certificate, a client's with its key encrypted, and what others might bring."""

    folder: Path
    authority: trustme.CA

    @property
    def ca(self) -> Path:
        """The authority, for clients."""
        return self.folder / "ca.pem"

    @property
    def client(self) -> Path:
        """A client's certificate with its chain."""
        return self.folder / "client.pem"

    @property
    def key(self) -> Path:
        """Its key, which takes `KEY_PASSWORD`."""
        return self.folder / "client.key"

    def store(self, name: str, issued: trustme.LeafCert, password: str | None = None) -> None:
        """Write a certificate and its key to files, as Kafka and OpenSSL both take them."""
        key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
        encryption = (
            serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        )
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
        (self.folder / f"{name}.key").write_bytes(pem)
        (self.folder / f"{name}.pem").write_bytes(chain)
        (self.folder / f"{name}.both.pem").write_bytes(pem + chain)


def certificates(folder: Path) -> Certificates:
    """New ones, in this folder."""
    made = Certificates(folder, trustme.CA())
    made.authority.cert_pem.write_to_path(made.ca)
    made.store("broker", made.authority.issue_cert("127.0.0.1"))
    made.store("client", made.authority.issue_cert("client.invalid", common_name=SUPER_USER), KEY_PASSWORD)
    other = Certificates(folder, trustme.CA())
    other.authority.cert_pem.write_to_path(folder / "other-ca.pem")
    other.store("stranger", other.authority.issue_cert("client.invalid", common_name=SUPER_USER))
    return made


class Secured:
    """The running broker, and what a client has to set for it."""

    def __init__(self, broker: EmbeddedBroker, ports: Mapping[str, int], certificates: Certificates) -> None:
        self.broker = broker
        self.plain = broker.bootstrap_servers
        """Where the tests look on."""
        self.certificates = certificates
        self._ports = ports

    def address(self, listener: str) -> str:
        """`host:port` of SASL, TLS or SASLTLS."""
        return f"127.0.0.1:{self._ports[listener]}"

    def login(self, mechanism: str, user: str = SUPER_USER, *, tls: bool = False) -> dict[str, Any]:
        """The settings of a user, with a password, or a command that prints a token."""
        values: dict[str, Any] = {
            "bootstrap_servers": self.address("SASLTLS" if tls else "SASL"),
            "kafka_security_protocol": "SASL_SSL" if tls else "SASL_PLAINTEXT",
            "kafka_sasl_mechanism": mechanism,
        }
        if tls:
            values["kafka_ca_file"] = str(self.certificates.ca)
        if mechanism == "OAUTHBEARER":
            return values | {"kafka_token_command": token_command(user)}
        return values | {"kafka_username": user, "kafka_password": SECRET}

    def certificate(self) -> dict[str, Any]:
        """The settings of somebody whose certificate says who it is."""
        return {
            "bootstrap_servers": self.address("TLS"),
            "kafka_security_protocol": "SSL",
            "kafka_ca_file": str(self.certificates.ca),
            "kafka_certificate_file": str(self.certificates.client),
            "kafka_key_file": str(self.certificates.key),
            "kafka_key_password": KEY_PASSWORD,
        }


def token_command(user: str, lifetime_s: float = 3600.0, log: Path | None = None) -> str:
    """A command that prints an unsecured JSON Web Token (and writes a line to the log each time)."""
    program = (
        "import base64, json, sys, time; now = time.time(); "
        "part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b'=').decode(); "
        f"claims = {{'sub': {user!r}, 'iat': now, 'exp': now + {lifetime_s}}}; "
        + (f"open({str(log)!r}, 'a').write('asked\\n'); " if log else "")
        + "print(part({'alg': 'none'}) + '.' + part(claims) + '.')"
    )
    return shlex.join([sys.executable, "-S", "-c", program])


@contextmanager
def secured_broker(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Secured]:
    """Run such a broker; `folder` is for its certificates."""
    made = certificates(folder)
    controller, *drawn = free_ports(1 + len(_PROTOCOLS))
    ports = dict(zip(_PROTOCOLS, drawn, strict=True))
    addresses = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
    map_ = ",".join(f"{name}:{protocol}" for name, protocol in _PROTOCOLS.items())
    values = {
        "listeners": f"{addresses},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": addresses,
        "listener.security.protocol.map": f"{map_},CONTROLLER:PLAINTEXT",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{SUPER_USER}",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(made.folder / "broker.both.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(made.ca),
        "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT",
        "listener.name.tls.ssl.client.auth": "required",
        **_logins("sasl"),
        **_logins("sasltls"),
        **(settings or {}),
    }
    with EmbeddedBroker(port=ports["PLAINTEXT"], controller_port=controller, settings=values) as broker:
        _add_scram_users(broker.bootstrap_servers)
        yield Secured(broker, ports, made)


def _logins(listener: str) -> dict[str, str]:
    prefix = f"listener.name.{listener}"
    quoted = SECRET.replace("\\", "\\\\").replace('"', '\\"')
    users = " ".join(f'user_{name}="{quoted}"' for name in USERS)
    return {f"{prefix}.sasl.enabled.mechanisms": ",".join(name.upper() for name in _MODULES)} | {
        f"{prefix}.{name}.sasl.jaas.config": (
            f"org.apache.kafka.common.security.{module} required{' ' + users if name == 'plain' else ''};"
        )
        for name, module in _MODULES.items()
    }


def _add_scram_users(servers: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        change = UserScramCredentialUpsertion(SUPER_USER, ScramCredentialInfo(mechanism, 4096), SECRET.encode())
        for future in admin.alter_user_scram_credentials([change]).values():
            future.result(WAIT_S)
