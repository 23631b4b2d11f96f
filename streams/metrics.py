"""What is counted, for Prometheus."""

import time

from prometheus_client import Counter, Gauge, Histogram

from streams.health import Health

CLAIMS = Counter("xferq_claims", "Queues claimed, by outcome", ["outcome"])
CLAIM_SECONDS = Histogram(
    "xferq_claim_seconds",
    "Time of a claim, from taking the command up to its confirmation",
    buckets=(0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
EVICTIONS = Counter("xferq_evictions", "Dispatchers made to leave their group by a claim")
HEADS_RESTORED = Counter("xferq_heads_restored", "Heads that had moved back below a claim and were put right")
COMMANDS = Counter("xferq_commands", "Commands ended, by type and outcome", ["type", "outcome"])
MESSAGES = Counter("xferq_messages", "Messages moved by drains", ["kind", "outcome"])
TRANSACTIONS = Counter("xferq_drain_transactions", "Transactions of drains, by outcome", ["outcome"])
TRANSACTION_SECONDS = Histogram(
    "xferq_drain_transaction_seconds",
    "Time of one drain transaction",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
PRODUCERS_REPLACED = Counter("xferq_producers_replaced", "Producers dropped after an error", ["error"])
DRAINS_RUNNING = Gauge("xferq_drains_running", "Queue partitions being drained by this worker")
CLAIMS_UNFINISHED = Gauge("xferq_claims_unfinished", "Claims in the ledger that are not drained yet")
OLDEST_CLAIM_SECONDS = Gauge(
    "xferq_oldest_claim_seconds", "Age of the oldest claim in this worker's share that is not drained yet; 0: none"
)
TASKS_REPUBLISHED = Counter("xferq_tasks_republished", "Drain tasks published again for a claim without progress")
SPACE_FREED = Counter("xferq_offsets_freed", "Offsets below heads and claims freed in queue topics")
REQUESTS = Counter("xferq_http_requests", "HTTP requests, by route and status", ["route", "status"])

STALLED = Gauge("xferq_stalled", "1 while this worker can't get on with anything; /readyz says why")
WAITING = Gauge("xferq_waiting", "Commands and drains of this worker that wait after an error")
WAITING_SECONDS = Gauge("xferq_waiting_seconds", "For how long the one waits that has waited longest")
PROGRESS = Gauge("xferq_last_progress_timestamp_seconds", "When this worker last got on with something, or began")


def show_health(health: Health) -> None:
    """Let these tell how a worker is."""
    STALLED.set_function(lambda: float(health.problem() is not None))
    WAITING.set_function(lambda: float(health.waiting))
    WAITING_SECONDS.set_function(lambda: health.waiting_s)
    PROGRESS.set_function(lambda: time.time() - health.idle_s)
