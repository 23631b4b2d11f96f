"""Settings of the work: how long a worker waits, how much it does at once, and what it logs of it."""

import socket
import uuid
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from streams.native.extension import is_here
from streams.settings.notation import Words
from streams.settings.processors import processors

_MOST_PROCESSES = 4


def _processes(settings: Mapping[str, Any]) -> int:
    """One per core; half as many with the compiled drain: the rest is what Kafka, or the network, is busy with then."""
    cores = processors()
    is_compiled = settings.get("native") != "no" and is_here()
    return min(_MOST_PROCESSES, max(1, cores // 2) if is_compiled else cores)


class WorkSettings(BaseModel):
    """What the workers go by; some of it concerns every process that has a Kafka client."""

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
    require_everything: bool = Field(
        False,
        description="a transfer without a criterion must say `everything: true`, over HTTP and on the topic; "
        "kcli can't say that, so its `xfer --everything` is then refused",
    )
    keep_commands_days: float = Field(30.0, gt=0, description="retention (days) of finished commands in the ledger")

    # How much at once.
    fetch_bytes: int = Field(2 << 20, ge=1 << 16, description="bytes that a drain reads from a partition at a time")
    batch_bytes: int = Field(
        960 << 10, ge=16 << 10, description="largest record batch (bytes); under max.message.bytes"
    )
    transaction_bytes: int = Field(64 << 20, ge=1, description="bytes that a drain commits at a time, about")
    transaction_messages: int = Field(50_000, ge=1, description="most messages in one drain transaction")
    drain_bytes: int = Field(
        32 << 20, ge=1, description="bytes that all drains of a process hold until they are sent, about"
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        "none", description="compression of xferq's writes"
    )
    native: Literal["auto", "yes", "no"] = Field(
        "auto", description="compiled drain: `yes` refuses to start without it, `no` leaves it out"
    )
    worker_processes: int = Field(
        default_factory=_processes,
        ge=1,
        le=64,
        description="processes of `xferq worker`; by default one per core it may use, with the compiled drain per two "
        "cores; at most 4",
    )
    concurrent_claims: int = Field(16, ge=1, description="queues that one worker claims concurrently")
    concurrent_drains: int = Field(4, ge=1, description="queue partitions that one worker drains concurrently")

    # The delivery log.
    node_id: uuid.UUID = Field(
        default_factory=lambda: uuid.uuid5(uuid.NAMESPACE_DNS, socket.gethostname()),
        description="`nodeid` of log records; by default derived from the host name",
    )
    log_meta: Words = Field((), description="names of the metadata that log records carry (list)")
    log_headers: Words = Field((), description="headers that log records carry (list); `X-*`: all that begin so")
