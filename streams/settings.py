"""Settings: every name, number and limit, read once: from the command line, the environment, a file, or by default."""

import json
import os
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from streams.domain.network import Network, parse_network
from streams.errors import InvalidSettings
from streams.sources import PREFIX, Sources, config_file, variable

EMBEDDED = "embedded"
"""The value of `bootstrap_servers` that asks for a broker of our own (`xferq up`, `xferq demo`)."""


def _listed(value: object) -> object:
    """A list from the environment: JSON, or words with commas between them."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            raise ValueError("is not a valid JSON list") from None
    return [word.strip() for word in value.split(",") if word.strip()]


def _networks(value: object) -> object:
    listed = _listed(value)
    if not isinstance(listed, list | tuple):
        raise ValueError("must be a list of networks")
    return tuple(parse_network(str(word)) for word in listed)


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _if_any(value: object) -> object:
    """An empty variable is one that is not set."""
    return None if value == "" else value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
Networks = Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)]
MaybeFile = Annotated[Path | None, BeforeValidator(_if_any)]
MaybeText = Annotated[str | None, BeforeValidator(_if_any)]
MaybeSecret = Annotated[SecretStr | None, BeforeValidator(_if_any)]
LogFormat = Annotated[Literal["text", "json"], BeforeValidator(_lower)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)]


class Settings(BaseSettings):
    """All settings; each is `XFERQ_` and its name in upper case in the environment, its name alone in a file.

    Units stand in the names: `_ms`, `_s`, `_bytes`, `_days`. What is secret is a `SecretStr`: it never shows.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    # Kafka.
    bootstrap_servers: str = Field(EMBEDDED, description="Kafka's host:port list; `embedded` for one of our own")

    # How every client of ours reaches Kafka. What goes with what is looked at in streams/kafka/security.py.
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="TLS is in `SSL` and `SASL_SSL`, a login in `SASL_PLAINTEXT` and `SASL_SSL`"
    )
    kafka_ca_file: MaybeFile = Field(
        None, description="PEM file of the authorities that Kafka's certificates are from; by default the system's"
    )
    kafka_check_hostname: bool = Field(True, description="with TLS: the certificate must be for the host asked for")
    kafka_certificate_file: MaybeFile = Field(None, description="PEM file of a certificate of our own, with its chain")
    kafka_key_file: MaybeFile = Field(None, description="PEM file of its key; by default it is in the same file")
    kafka_key_password: MaybeSecret = Field(None, description="of an encrypted key")
    kafka_key_password_file: MaybeFile = Field(None, description="a file that holds it, instead")
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = Field(
        None, description="how to log in: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`"
    )
    kafka_username: MaybeText = Field(None, description="for PLAIN and SCRAM")
    kafka_password: MaybeSecret = Field(None, description="for PLAIN and SCRAM")
    kafka_password_file: MaybeFile = Field(None, description="a file that holds it, instead")
    kafka_token_command: MaybeText = Field(
        None, description="for OAUTHBEARER: a command that prints a token; run again before that expires"
    )

    # Topics and consumer groups.
    commands_topic: str = Field("xferq.commands", description="where cancel and transfer commands are published")
    drains_topic: str = Field("xferq.drains", description="drain tasks (internal)")
    ledger_topic: str = Field("xferq.ledger", description="claims, progress, heads and command status (compacted)")
    log_topic: str = Field("delivery-log", description="AdminRebind records")
    group_template: str = Field(
        "xferq.dispatch.{topic}",
        description="consumer group of a queue topic's dispatchers; may hold {topic}",
    )
    worker_group: str = Field("xferq.worker", description="consumer group of the workers (Faust's)")

    # Topics that xferq creates.
    commands_partitions: int = Field(32, ge=1, description="at least as many as workers")
    drains_partitions: int = Field(32, ge=1, description="at least as many as workers; never changed")
    ledger_partitions: int = Field(32, ge=1, description="never changed")
    log_partitions: int = Field(8, ge=1, description="of the delivery log")
    queue_partitions: int = Field(4, ge=1, description="of a queue topic that xferq creates")
    replication_factor: int = Field(-1, ge=-1, description="of topics that xferq creates; -1: the broker's default")

    # Patience.
    transaction_timeout_ms: int = Field(30_000, ge=5_000, le=900_000, description="Kafka's, for claims and drains")
    request_timeout_ms: int = Field(15_000, ge=1_000, description="of one request to Kafka")
    settle_ms: int = Field(1_000, ge=0, description="longest wait of a claim for transactions under way")
    hold_ms: int = Field(5_000, ge=0, description="longest hold of a queue's group after a claim")
    confirm_ms: int = Field(10_000, ge=0, description="longest wait for a claim to be seen in the group's offsets")
    guard_ms: int = Field(1_000, ge=50, description="time between two looks at the heads of claimed queues")
    worker_session_ms: int = Field(
        15_000, ge=6_000, le=30_000, description="a worker that is silent for so long has died: others take its work"
    )
    stalled_ms: int = Field(30_000, ge=100, description="a claim without progress for so long gets its tasks again")
    space_s: float = Field(60.0, gt=0, description="time between two rounds of freeing space in queue topics")
    keep_commands_days: float = Field(30.0, gt=0, description="how long finished commands stay in the ledger")

    # How much at once.
    fetch_bytes: int = Field(2 << 20, ge=1 << 16, description="read from a partition at a time by a drain")
    batch_bytes: int = Field(960 << 10, ge=16 << 10, description="of one record batch; under max.message.bytes")
    transaction_bytes: int = Field(8 << 20, ge=1, description="gathered by a drain before it commits, about")
    transaction_messages: int = Field(10_000, ge=1, description="most messages in one drain transaction")
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field("none", description="of what xferq writes")
    worker_processes: int = Field(
        default_factory=lambda: min(os.cpu_count() or 1, 4),
        ge=1,
        le=64,
        description="processes of `xferq worker`; by default as many as cores, 4 at most",
    )
    concurrent_claims: int = Field(16, ge=1, description="queues claimed side by side by one worker")
    concurrent_drains: int = Field(4, ge=1, description="queue partitions drained side by side by one worker")

    # The delivery log.
    node_id: uuid.UUID = Field(
        default_factory=lambda: uuid.uuid5(uuid.NAMESPACE_DNS, socket.gethostname()),
        description="`nodeid` of log records; by default made from the host's name",
    )
    log_meta: Words = Field((), description="metadata names that log records carry: a list")
    log_headers: Words = Field((), description="header names that log records carry: a list")

    # Watching it.
    log_level: LogLevel = Field("INFO", description="`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`")
    log_format: LogFormat = Field("text", description="`text`, or `json`: an object a line")
    traces: Literal["none", "otlp"] = Field(
        "none", description="`otlp`: OpenTelemetry spans, to where OTEL_EXPORTER_OTLP_ENDPOINT says (docs/traces.md)"
    )
    metrics_host: str = Field(
        "127.0.0.1", min_length=1, description="the address on which a worker's port listens; it asks for no password"
    )
    metrics_port: int = Field(
        8001,
        ge=0,
        le=65535,
        description="of a worker's /livez, /readyz, /metrics; the next for more processes; 0: none",
    )
    metrics_queues: int = Field(
        100, ge=0, description="xfer queues with a depth of their own in a process's metrics, the deepest; 0: none"
    )

    # The api: where it listens, who may use it.
    api_listen_host: str = Field("127.0.0.1", description="the address that the api listens on; `xferq api --host`")
    api_listen_port: int = Field(8000, ge=0, le=65535, description="0: a free one; `xferq api --port`")
    api_names: Words = Field(
        (), description="names in URLs of the api, a list, besides localhost and the address that is asked"
    )
    api_trusted_hosts: Networks = Field(
        (parse_network("127.0.0.0/8"), parse_network("::1/128")),
        description="networks (CIDR), a list: who comes from there needs no password",
    )
    api_trusted_proxies: Networks = Field(
        (), description="networks (CIDR), a list: proxies whose X-Forwarded-For tells who really asks"
    )
    api_users_file: MaybeFile = Field(None, description="users and hashes, from `xferq hash-password`, one a line")
    api_tls_cert: MaybeFile = Field(None, description="PEM file of the api's certificate, and of those above it")
    api_tls_key: MaybeFile = Field(None, description="PEM file of its key")
    api_tls_key_password: MaybeSecret = Field(None, description="where the key is encrypted")
    api_tls_client_ca: MaybeFile = Field(
        None, description="PEM file: who has a certificate of this authority needs no password"
    )

    # The api: what a client may take.
    api_body_bytes: int = Field(2 << 20, ge=1 << 10, le=64 << 20, description="largest body, unpacked too")
    api_head_bytes: int = Field(64 << 10, ge=1 << 10, le=1 << 20, description="largest head of a request, about")
    api_head_s: float = Field(10.0, gt=0, description="longest wait for a request's head, and for a TLS handshake")
    api_body_s: float = Field(30.0, gt=0, description="longest wait for a body")
    api_read_s: float = Field(30.0, gt=0, description="how long an answer may stay unread")
    api_requests: int = Field(256, ge=1, description="requests at work at once")
    api_connections: int = Field(2048, ge=16, description="connections at once")

    # The command line, as a client of the api.
    api_url: str = Field("http://127.0.0.1:8000", description="where the command line finds the api")
    client_user: MaybeText = Field(None, description="who the command line is, where the api wants to know")
    client_password: MaybeSecret = Field(None, description="that user's")
    client_ca: MaybeFile = Field(
        None, description="PEM file: authorities for the api's certificate; by default the usual ones"
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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Where values come from, the first one first."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_file())

    def group_of(self, topic: str) -> str:
        """The consumer group whose committed offsets are the heads of queue topic `topic`."""
        return self.group_template.format(topic=topic)

    def as_variables(self) -> dict[str, str]:
        """The environment in which another process of ours has the same settings, secrets in plain text."""
        return {
            variable(name): value if isinstance(value, str) else json.dumps(value)
            for name, value in self.shown(with_secrets=True).items()
            if value is not None
        }

    def shown(self, *, with_secrets: bool = False) -> dict[str, Any]:
        """All values as JSON can hold them; of what is secret only that it is there."""
        values = self.model_dump(mode="json")
        for name in values:
            secret = getattr(self, name)
            if with_secrets and isinstance(secret, SecretStr):
                values[name] = secret.get_secret_value()
        return values


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
        settings = Settings(**given)  # type: ignore[arg-type]
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
    """All settings as a Markdown table, as README.md shows it: `python -m streams.settings` prints it."""
    rows = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default if field.default_factory is None else None
        listed = ",".join(map(str, default)) if isinstance(default, tuple) else default
        shown = "" if listed in (None, "") else f"`{listed}`"
        rows.append(f"| `{variable(name)}` | {shown} | {field.description} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(settings_table())
