"""Settings: every name, number and limit, read once: from the command line, the environment, a file, or by default."""

import json
import socket
import uuid
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from streams.domain.network import parse_network
from streams.errors import InvalidSettings
from streams.settings.notation import LogFormat, LogLevel, MaybeFile, MaybeSecret, MaybeText, Networks, Words
from streams.settings.processors import processors
from streams.settings.sources import Sources, variable

EMBEDDED = "embedded"
"""The value of `bootstrap_servers` that asks for a broker of our own (`xferq up`, `xferq demo`)."""


class Settings(BaseModel):
    """All settings; each is `XFERQ_` and its name in upper case in the environment, its name alone in a file.

    Units stand in the names: `_ms`, `_s`, `_bytes`, `_days`. What is secret is a `SecretStr`: it never shows.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, validate_default=True)

    # Kafka.
    bootstrap_servers: str = Field(EMBEDDED, description="Kafka's `host:port` list; `embedded`: xferq's own Kafka")

    # How every Kafka client of xferq reaches it. streams/kafka/security.py checks what goes with what.
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="`SSL` and `SASL_SSL` use TLS; `SASL_PLAINTEXT` and `SASL_SSL` log in"
    )
    kafka_ca_file: MaybeFile = Field(
        None, description="PEM file of the authorities that signed Kafka's certificates; by default the system's"
    )
    kafka_check_hostname: bool = Field(True, description="with TLS: Kafka's certificate must match its host name")
    kafka_certificate_file: MaybeFile = Field(None, description="PEM file of a client certificate and its chain")
    kafka_key_file: MaybeFile = Field(None, description="PEM file of its key; by default in the same file")
    kafka_key_password: MaybeSecret = Field(None, description="password of an encrypted key")
    kafka_key_password_file: MaybeFile = Field(None, description="file that holds this password, instead")
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        None, description="login mechanism: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`"
    )
    kafka_username: MaybeText = Field(None, description="user name, for PLAIN and SCRAM")
    kafka_password: MaybeSecret = Field(None, description="password, for PLAIN and SCRAM")
    kafka_password_file: MaybeFile = Field(None, description="file that holds the password, instead")
    # As secret as a password: a client's secret may stand in it.
    kafka_token_command: MaybeSecret = Field(
        None, description="for OAUTHBEARER: command that prints a token; run again before the token expires"
    )

    # Topics and consumer groups.
    commands_topic: str = Field("xferq.commands", description="topic of cancel and transfer commands")
    drains_topic: str = Field("xferq.drains", description="topic of drain tasks (internal)")
    ledger_topic: str = Field(
        "xferq.ledger", description="topic of claims, progress, heads and command status (compacted)"
    )
    log_topic: str = Field("delivery-log", description="topic of AdminRebind records")
    group_template: str = Field(
        "xferq.dispatch.{topic}",
        description="consumer group of a queue topic's dispatchers; may contain {topic}",
    )
    worker_group: str = Field("xferq.worker", description="consumer group of the workers (Faust's)")

    # Topics that xferq creates.
    commands_partitions: int = Field(32, ge=1, description="partitions of commands; at least one per worker")
    drains_partitions: int = Field(
        32, ge=1, description="partitions of drain tasks; at least one per worker; never changed"
    )
    ledger_partitions: int = Field(
        32, ge=1, description="partitions of the ledger, which has as many more for drains' progress; never changed"
    )
    log_partitions: int = Field(8, ge=1, description="partitions of the delivery log")
    queue_partitions: int = Field(4, ge=1, description="partitions of a queue topic that xferq creates")
    replication_factor: int = Field(
        -1, ge=-1, description="replicas of topics that xferq creates; -1: broker's default"
    )

    # Patience.
    transaction_timeout_ms: int = Field(
        30_000, ge=5_000, le=900_000, description="Kafka's transaction timeout (ms) for claims and drains"
    )
    request_timeout_ms: int = Field(15_000, ge=1_000, description="timeout (ms) of one request to Kafka")
    settle_ms: int = Field(1_000, ge=0, description="longest wait (ms) of a claim for open transactions")
    hold_ms: int = Field(5_000, ge=0, description="longest hold (ms) of a queue's group after a claim")
    confirm_ms: int = Field(10_000, ge=0, description="longest wait (ms) until the group's offsets show a claim")
    guard_ms: int = Field(1_000, ge=50, description="interval (ms) between checks of the heads of claimed queues")
    worker_session_ms: int = Field(
        15_000, ge=6_000, le=30_000, description="silence (ms) after which a worker counts as dead"
    )
    stalled_ms: int = Field(
        30_000, ge=100, description="time (ms) without progress until a claim's tasks are republished"
    )
    pending_after_ms: int = Field(
        60_000, ge=0, description="time (ms) after which the ledger keeps a command that waits, and not the topic"
    )
    gone_s: float = Field(
        60.0,
        ge=0,
        description="time (s) for which no broker may know a deleted queue until what was claimed of it is lost",
    )
    space_s: float = Field(60.0, gt=0, description="interval (s) between rounds of freeing space in queue topics")
    expire_after_s: float = Field(
        0.0,
        ge=0,
        le=315_360_000,
        description="time (s) within which a command without `expires_at` has to begin; 0 for any",
    )
    keep_commands_days: float = Field(30.0, gt=0, description="retention (days) of finished commands in the ledger")

    # How much at once.
    fetch_bytes: int = Field(2 << 20, ge=1 << 16, description="bytes that a drain reads from a partition at a time")
    batch_bytes: int = Field(
        960 << 10, ge=16 << 10, description="largest record batch (bytes); under max.message.bytes"
    )
    transaction_bytes: int = Field(8 << 20, ge=1, description="bytes that a drain gathers before it commits, about")
    transaction_messages: int = Field(10_000, ge=1, description="most messages in one drain transaction")
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        "none", description="compression of xferq's writes"
    )
    worker_processes: int = Field(
        default_factory=lambda: min(processors(), 4),
        ge=1,
        le=64,
        description="processes of `xferq worker`; by default one per core it may use, at most 4",
    )
    concurrent_claims: int = Field(16, ge=1, description="queues that one worker claims concurrently")
    concurrent_drains: int = Field(4, ge=1, description="queue partitions that one worker drains concurrently")

    # The delivery log.
    node_id: uuid.UUID = Field(
        default_factory=lambda: uuid.uuid5(uuid.NAMESPACE_DNS, socket.gethostname()),
        description="`nodeid` of log records; by default derived from the host name",
    )
    log_meta: Words = Field((), description="names of the metadata that log records carry (list)")
    log_headers: Words = Field((), description="names of the headers that log records carry (list)")

    # Watching it.
    log_level: LogLevel = Field("INFO", description="`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`")
    log_format: LogFormat = Field("text", description="`text`, or `json`: one object per line")
    traces: Literal["none", "otlp"] = Field(
        "none", description="`otlp`: OpenTelemetry spans, sent to OTEL_EXPORTER_OTLP_ENDPOINT (docs/traces.md)"
    )
    metrics_host: str = Field(
        "127.0.0.1", min_length=1, description="address that a worker's port listens on; the port asks for no password"
    )
    metrics_port: int = Field(
        8001,
        ge=0,
        le=65535,
        description="port of a worker's /livez, /readyz, /metrics; further processes take the next ports; 0: none",
    )
    metrics_queues: int = Field(
        100, ge=0, description="xfer queues, deepest first, with a depth of their own in a process's metrics; 0: none"
    )

    # The api: where it listens, who may use it.
    api_listen_host: str = Field("127.0.0.1", description="address that the api listens on; `xferq api --host`")
    api_listen_port: int = Field(
        8000, ge=0, le=65535, description="port of the api, 0: any free one; `xferq api --port`"
    )
    api_names: Words = Field(
        (), description="names in the api's URLs (list), besides localhost and the address a request arrives at"
    )
    api_trusted_hosts: Networks = Field(
        (parse_network("127.0.0.0/8"), parse_network("::1/128")),
        description="networks (CIDR, list) whose requests need no password",
    )
    api_trusted_proxies: Networks = Field(
        (), description="networks (CIDR, list) of proxies whose X-Forwarded-For tells the client's address"
    )
    api_users_file: MaybeFile = Field(None, description="users and hashes from `xferq hash-password`, one per line")
    api_tls_cert: MaybeFile = Field(None, description="PEM file of the api's certificate and its chain")
    api_tls_key: MaybeFile = Field(None, description="PEM file of its key")
    api_tls_key_password: MaybeSecret = Field(None, description="password of the key, if it is encrypted")
    api_tls_client_ca: MaybeFile = Field(
        None, description="PEM file of an authority; clients with a certificate from it need no password"
    )

    # The api: what a client may take.
    api_body_bytes: int = Field(
        2 << 20, ge=1 << 10, le=64 << 20, description="largest request body (bytes), also unpacked"
    )
    api_head_bytes: int = Field(64 << 10, ge=1 << 10, le=1 << 20, description="largest request head (bytes), about")
    api_head_s: float = Field(10.0, gt=0, description="longest wait (s) for a request's head, and for a TLS handshake")
    api_body_s: float = Field(30.0, gt=0, description="longest wait (s) for a body")
    api_read_s: float = Field(30.0, gt=0, description="longest time (s) that a response may stay unread")
    api_requests: int = Field(256, ge=1, description="requests handled concurrently")
    api_connections: int = Field(2048, ge=16, description="concurrent connections")

    # The command line, as a client of the api.
    api_url: str = Field("http://127.0.0.1:8000", description="URL at which the command line finds the api")
    client_user: MaybeText = Field(None, description="user name of the command line, where the api asks for one")
    client_password: MaybeSecret = Field(None, description="that user's password")
    client_ca: MaybeFile = Field(
        None, description="PEM file of the authorities for the api's certificate; by default the system's"
    )
    client_cert: MaybeFile = Field(None, description="PEM file of a client certificate and its key")

    @field_validator("group_template")
    @classmethod
    def _template_is_usable(cls, value: str) -> str:
        try:
            value.format(topic="queue.x")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError("may hold {topic} and no other braces") from error
        return value

    @model_validator(mode="after")
    def _halves_go_together(self) -> Self:
        for one, other in (("api_tls_cert", "api_tls_key"), ("client_user", "client_password")):
            if bool(getattr(self, one)) != bool(getattr(self, other)):
                raise ValueError(f"{variable(one)} and {variable(other)} go together")
        if self.api_tls_client_ca and not self.api_tls_cert:
            raise ValueError("XFERQ_API_TLS_CLIENT_CA needs XFERQ_API_TLS_CERT and XFERQ_API_TLS_KEY")
        return self

    def group_of(self, topic: str) -> str:
        """The consumer group whose committed offsets are the heads of queue topic `topic`."""
        return self.group_template.format(topic=topic)

    def as_variables(self) -> dict[str, str]:
        """What a child process needs besides this process's environment to have the same settings.

        Nothing secret: the child reads that where its parent did. What is in a file must not be in an environment.
        """
        return {
            variable(name): value if isinstance(value, str) else json.dumps(value)
            for name, value in self.shown().items()
            if value is not None and not isinstance(getattr(self, name), SecretStr)
        }

    def shown(self) -> dict[str, Any]:
        """All values as JSON can hold them; of what is secret only that it is there."""
        return self.model_dump(mode="json")


def load_settings(**overrides: object) -> Settings:
    """Settings: `overrides` (from the command line) first, then the environment, then the file, then defaults.

    Raises:
        InvalidSettings: a value is not valid, or something is set that there is not; the message names it and
            where it stands.
    """
    return load_with_origins(**overrides)[0]


def load_with_origins(**overrides: object) -> tuple[Settings, Mapping[str, str]]:
    """Settings, and by setting where its value comes from. Raises as `load_settings`."""
    given = {name: value for name, value in overrides.items() if value is not None}
    sources = Sources.read(Settings.model_fields, given)
    try:
        settings = Settings.model_validate(sources.values)
    except ValidationError as error:
        problems = [
            f"{sources.place_of(str(item['loc'][0]))}: {_said(item['msg'])}" if item["loc"] else _said(item["msg"])
            for item in error.errors(include_input=False, include_url=False)
        ]
        raise InvalidSettings("; ".join(dict.fromkeys(problems))) from None
    return settings, sources.origins


def _said(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Input ")


def settings_table() -> str:
    """All settings as a Markdown table, as in docs/settings.md: `python -m streams.settings.settings` prints it."""
    rows = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default if field.default_factory is None else None
        listed = ",".join(map(str, default)) if isinstance(default, tuple) else default
        shown = "" if listed in (None, "") else f"`{listed}`"
        rows.append(f"| `{variable(name)}` | {shown} | {field.description} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(settings_table())
