"""Settings: every name, number and limit, read once from the environment (`XFERQ_...`)."""

import json
import os
import socket
import uuid
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from streams.errors import Misconfigured

EMBEDDED = "embedded"
"""The value of `bootstrap_servers` that asks for a broker of our own (`xferq up`, `xferq demo`)."""


class Settings(BaseSettings):
    """All settings; each is `XFERQ_` and its name in upper case in the environment.

    Units stand in the names: `_ms`, `_s`, `_bytes`, `_days`.
    """

    model_config = SettingsConfigDict(env_prefix="XFERQ_", extra="ignore", frozen=True)

    bootstrap_servers: str = Field(EMBEDDED, description="Kafka's host:port list; `embedded` for one of our own")

    commands_topic: str = Field("xferq.commands", description="where cancel and transfer commands are published")
    drains_topic: str = Field("xferq.drains", description="drain tasks (internal)")
    ledger_topic: str = Field("xferq.ledger", description="claims, progress, heads and command status (compacted)")
    log_topic: str = Field("delivery-log", description="AdminRebind records")
    group_template: str = Field(
        "xferq.dispatch.{topic}",
        description="consumer group of a queue topic's dispatchers; may hold {topic}",
    )
    worker_group: str = Field("xferq.worker", description="consumer group of the workers (Faust's)")

    commands_partitions: int = Field(32, ge=1, description="at least as many as workers")
    drains_partitions: int = Field(32, ge=1, description="at least as many as workers; never changed")
    ledger_partitions: int = Field(32, ge=1, description="never changed")
    log_partitions: int = Field(8, ge=1, description="of the delivery log")
    queue_partitions: int = Field(4, ge=1, description="of a queue topic that xferq creates")
    replication_factor: int = Field(-1, ge=-1, description="of topics that xferq creates; -1: the broker's default")

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

    fetch_bytes: int = Field(2 << 20, ge=1 << 16, description="read from a partition at a time by a drain")
    batch_bytes: int = Field(512 << 10, ge=16 << 10, description="of one record batch; under max.message.bytes")
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

    node_id: uuid.UUID = Field(
        default_factory=lambda: uuid.uuid5(uuid.NAMESPACE_DNS, socket.gethostname()),
        description="`nodeid` of log records; by default made from the host's name",
    )
    log_meta: tuple[str, ...] = Field((), description="metadata names that log records carry, as a JSON list")
    log_headers: tuple[str, ...] = Field((), description="header names that log records carry, as a JSON list")

    metrics_port: int = Field(
        8001,
        ge=0,
        le=65535,
        description="of a worker's own /metrics on 127.0.0.1, the next ones for further processes; 0: none",
    )
    api_url: str = Field("http://127.0.0.1:8000", description="where the command line finds the api")

    @field_validator("group_template")
    @classmethod
    def _template_is_usable(cls, value: str) -> str:
        try:
            value.format(topic="queue.x")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError("may hold {topic} and no other braces") from error
        return value

    def group_of(self, topic: str) -> str:
        """The consumer group whose committed offsets are the heads of queue topic `topic`."""
        return self.group_template.format(topic=topic)


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment, `overrides` first.

    Raises:
        Misconfigured: a value is not valid; the message names the variable.
    """
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(
            f"XFERQ_{'.'.join(str(part) for part in item['loc']).upper()}: {item['msg']}" for item in error.errors()
        )
        raise Misconfigured(problems) from None


def settings_table() -> str:
    """All settings as a Markdown table, as README.md shows it: `python -m streams.settings` prints it."""
    rows = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default if field.default_factory is None else None
        shown = "" if default is None else f"`{json.dumps(default)}`" if default == () else f"`{default}`"
        rows.append(f"| `XFERQ_{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(settings_table())
