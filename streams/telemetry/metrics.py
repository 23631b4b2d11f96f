"""Metrics for Prometheus: all of them, in one list, with unit, labels and the labels' values.

docs/metrics.md has them: `python -m streams.telemetry.metrics` prints that table. Worker and api each serve their
own.
A label whose values are listed has all its series from the start, at 0: the first event is an increase, too.
"""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics import MetricWrapperBase

from streams import __version__
from streams.domain.claim import Kind
from streams.domain.command import TYPES
from streams.domain.returned import ReturnReason
from streams.errors import Conflict, Fenced, OutcomeUnknown, OutOfRange, Rejected, Unavailable, Unreadable
from streams.native.extension import UNUSUAL
from streams.telemetry.health import Health

Part = Literal["worker", "api"]
Labels = Mapping[str, Sequence[str] | str]
"""By label: all its values, or where there are others than known beforehand, what they are and how many at most."""
_Made = TypeVar("_Made", bound=MetricWrapperBase)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, as it is documented; `name` as it is scraped, `parts` are those who serve it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    help: str
    labels: Labels
    parts: Sequence[Part]


METRICS: list[Metric] = []
"""All of them."""
REGISTRIES: dict[Part, CollectorRegistry] = {"worker": CollectorRegistry(), "api": CollectorRegistry()}
"""What each part serves; of the process itself, `process_*` and `python_gc_*` besides."""
OTHER = "_other"
"""The label value that stands for all queues without one of their own; no xfer queue is called so."""

_BOTH: Sequence[Part] = ("worker", "api")
_WORKER: Sequence[Part] = ("worker",)
_ERRORS = [kind.__name__ for kind in (Fenced, OutcomeUnknown, OutOfRange, Conflict, Rejected, Unavailable, Unreadable)]


disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, that says when it began


def _listed(made: _Made, metric: Metric) -> _Made:
    METRICS.append(metric)
    for part in metric.parts:
        REGISTRIES[part].register(made)
    values = [values for values in metric.labels.values() if not isinstance(values, str)]
    if metric.labels and len(values) == len(metric.labels):
        for combination in itertools.product(*values):
            made.labels(*combination)
    return made


def _counter(name: str, unit: str, help: str, labels: Labels | None = None, parts: Sequence[Part] = _WORKER) -> Counter:
    metric = Metric(name, "counter", unit, help, labels or {}, parts)
    return _listed(Counter(name, help, [*metric.labels], registry=None), metric)


def _gauge(name: str, unit: str, help: str, labels: Labels | None = None, parts: Sequence[Part] = _WORKER) -> Gauge:
    metric = Metric(name, "gauge", unit, help, labels or {}, parts)
    return _listed(Gauge(name, help, [*metric.labels], registry=None), metric)


def _histogram(name: str, help: str, labels: Labels, buckets: Sequence[float]) -> Histogram:
    metric = Metric(name, "histogram", "seconds", help, labels, _WORKER)
    return _listed(Histogram(name, help, [*labels], buckets=buckets, registry=None), metric)


# ---- commands and claims

COMMANDS = _counter(
    "xferq_commands_total",
    "commands",
    "Commands ended",
    {"type": "the command's, or `unknown`", "outcome": ("done", "refused")},
)
for _ended in itertools.product((*TYPES, "unknown"), ("done", "refused")):
    COMMANDS.labels(*_ended)
_OUTCOMES: Labels = {"outcome": ("claimed", "empty", "resumed", "refused", "failed")}
"""`resumed`: the command had claimed before. `failed`: Kafka did not let it happen in time; it is tried again."""
CLAIMS = _counter("xferq_claims_total", "queues", "Claims of a queue; each attempt of a command counts", _OUTCOMES)
CLAIM_SECONDS = _histogram(
    "xferq_claim_seconds",
    "Duration of a claim, from taking the command to the look that confirms the claim",
    _OUTCOMES,
    (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
EVICTIONS = _counter("xferq_evictions_total", "dispatchers", "Dispatchers evicted from their group by a claim")
HEADS_RESTORED = _counter(
    "xferq_heads_restored_total", "partitions", "Group offsets that were below a claim, or missing, and were corrected"
)

# ---- the drain

MESSAGES = _counter(
    "xferq_messages_total",
    "messages",
    "Messages in committed transactions: moved (by a cancel: restored), or returned to the tail of the queue",
    {"kind": get_args(Kind), "outcome": ("moved", "returned")},
)
_REASONS: Labels = {"reason": [reason.value for reason in ReturnReason]}
RETURNED = _counter("xferq_returned_messages_total", "messages", "Returned messages by reason", _REASONS)
MOVED_IN_PYTHON = _counter(
    "xferq_moved_in_python_total",
    "messages",
    "Messages that the compiled drain left to Python, by what is unusual in them",
    {"reason": UNUSUAL},
)
NATIVE = _gauge(
    "xferq_native", "processes", "1 where this process drains with the compiled extension, 0 where by Python alone"
)
TRANSACTIONS = _counter(
    "xferq_drain_transactions_total",
    "transactions",
    "Drain transactions: `committed`, or the error that ended the transaction",
    {"outcome": ("committed", *_ERRORS)},
)
TRANSACTION_SECONDS = _histogram(
    "xferq_drain_transaction_seconds",
    "Duration of a drain transaction, from its first write to the answer to its commit, or to its error",
    {"outcome": ("committed", "failed")},
    (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
PRODUCERS_REPLACED = _counter(
    "xferq_producers_replaced_total",
    "producers",
    "Producers dropped after an error; `Fenced`: another worker has the work, or the transaction timed out",
    {"work": ("claim", "drain"), "error": _ERRORS},
)
DRAINS_RUNNING = _gauge("xferq_drains_running", "partitions", "Queue partitions that this process is draining")
LOST = _counter(
    "xferq_lost_ranges_total",
    "ranges",
    "Claimed ranges found to have lost messages in Kafka before they were drained; counted each time one is found",
)

# ---- what is claimed and not drained yet: each process for its share of the queues, so their sum is all of it

UNDRAINED = _gauge(
    "xferq_undrained_messages",
    "offsets",
    "Claimed but not yet drained: what workers have left to do. In offsets, some of which are transaction markers",
)
UNFINISHED_TOTAL = _gauge(
    "xferq_unfinished_messages",
    "offsets",
    "Everything unfinished claims took: their progress is 1 - xferq_undrained_messages / xferq_unfinished_messages",
)
CLAIMS_UNFINISHED = _gauge("xferq_claims_unfinished", "claims", "Claims that are not yet drained")
OLDEST_CLAIM_SECONDS = _gauge("xferq_oldest_claim_seconds", "seconds", "Age of the oldest unfinished claim; 0: none")
SILENT_SECONDS = _gauge(
    "xferq_silent_claim_seconds",
    "seconds",
    "Longest time that any unfinished claim has gone without progress; 0: none",
)
TASKS_REPUBLISHED = _counter(
    "xferq_tasks_republished_total", "tasks", "Drain tasks published again for a claim without progress"
)

# ---- queues

_DEEPEST: Labels = {
    "queue": f"an xfer queue: the XFERQ_METRICS_QUEUES deepest of each process; `{OTHER}`: all others together"
}
DEPTH = _gauge(
    "xferq_xfer_queue_depth",
    "messages",
    "What is in an xfer queue, from its head to its end; an upper bound where it was too much to be counted. Each "
    "process reports its share of the queues",
    _DEEPEST,
)
HELD = _gauge(
    "xferq_xfer_queue_held",
    "messages",
    "What commands have claimed of an xfer queue and not drained yet, which is in no queue meanwhile; as for its depth",
    _DEEPEST,
)
UNCOUNTED = _gauge(
    "xferq_uncounted_xfer_queues",
    "queues",
    "Xfer queues of this process of which the depth, or what is held, is an upper bound and no count",
)
SPACE_FREED = _counter("xferq_offsets_freed_total", "offsets", "Offsets freed in queue topics, below heads and claims")

GROUP_KINDS = ("classic", "consumer", "share", "streams")
"""As Kafka has them; `consumer` is the new protocol, KIP-848."""
FOREIGN_GROUPS = _gauge(
    "xferq_foreign_groups",
    "groups",
    "Groups other than a queue's own that take messages out of it: a cancel restores those messages as well",
    {"kind": GROUP_KINDS},
)
UNSAFE_QUEUES = _gauge(
    "xferq_unsafe_queues",
    "queues",
    "Queue topics with settings by which Kafka may lose messages, or not take one back: `xferq topics` puts them right",
)

# ---- the ledger and open transactions

LEDGER_LAG = _gauge(
    "xferq_ledger_lag", "offsets", "Offsets committed to the ledger that this process has not yet read", parts=_BOTH
)
UNREADABLE = _counter(
    "xferq_unreadable_ledger_records_total",
    "records",
    "Ledger records that this process can't read, perhaps from a later version; counted each time they are read",
    parts=_BOTH,
)
OPEN_SECONDS = _gauge(
    "xferq_open_transaction_seconds",
    "seconds",
    "For how long the oldest open transaction has been seen: in the ledger, in what workers consume, or in an xfer "
    "queue of this process",
    {"where": ("ledger", "commands", "drains", "xfer_queues")},
    parts=_BOTH,
)

# ---- how a process is

STALLED = _gauge(
    "xferq_stalled", "boolean", "1 while this process can't make progress on anything; /readyz says why", parts=_BOTH
)
WAITING = _gauge("xferq_waiting", "pieces of work", "Commands and drains of this process waiting after an error")
WAITING_SECONDS = _gauge(
    "xferq_waiting_seconds", "seconds", "Longest wait of any of these commands and drains; 0: none"
)
PROGRESS = _gauge(
    "xferq_last_progress_timestamp_seconds", "seconds", "When this process last made progress, or started"
)
INFO = _gauge("xferq_info", "", "Always 1", {"version": "the version of xferq; one per process"}, parts=_BOTH)
INFO.labels(version=__version__).set(1)

# ---- the api

REQUESTS = _counter(
    "xferq_http_requests_total",
    "requests",
    "HTTP requests to the api",
    {"route": "a path of the api as in OpenAPI, or `unmatched`", "status": "the HTTP status of the answer"},
    parts=("api",),
)

for _registry in REGISTRIES.values():
    ProcessCollector(registry=_registry)
    GCCollector(registry=_registry)


def show_health(health: Health) -> None:
    """Let these tell how a worker is."""
    STALLED.set_function(lambda: float(health.problem() is not None))
    WAITING.set_function(lambda: float(health.waiting))
    WAITING_SECONDS.set_function(lambda: health.waiting_s)
    PROGRESS.set_function(lambda: time.time() - health.idle_s)


def error_of(error: Exception) -> str:
    """The error as a label: its class, or the nearest one above it that is listed."""
    return next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _ERRORS), Unavailable.__name__)


def metrics_table() -> str:
    """All of them, as Markdown."""
    rows = ["| metric | type | unit | labels | what it is | of |", "|---|---|---|---|---|---|"]
    for metric in METRICS:
        labels = "<br>".join(
            f"`{name}`: {values if isinstance(values, str) else ', '.join(f'`{value}`' for value in values)}"
            for name, values in metric.labels.items()
        )
        cells = (f"`{metric.name}`", metric.kind, metric.unit, labels, metric.help, ", ".join(metric.parts))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(metrics_table())
