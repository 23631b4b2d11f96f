"""What must not grow: what a drain asks of Kafka, of JSON and of memory for a thousand messages.

Counts, not times: they are the same on a slow day.
"""

import gc
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest
from aiokafka.conn import AIOKafkaConnection

from streams.broker import EmbeddedBroker
from streams.drain import pipeline
from streams.drain.drainer import Drainer
from streams.kafka.cluster import Cluster
from streams.ledger.ledger import Ledger
from streams.telemetry.health import Health
from streams.worker.engine import utc_now
from tests.broker.moments import claimed
from tests.broker.scene import Scene
from tests.native.extension import needs_native
from tests.support.draining import drain
from tests.support.patience import stretched_ms

pytestmark = pytest.mark.alone

_MESSAGES = 12_000
_QUEUES = 16
MOST = {
    "ApiVersion": 2.0,
    "Metadata": 3.0,
    "FindCoordinator": 0.67,
    "InitProducerId": 0.67,
    "AddPartitionsToTxn": 1.34,
    "Produce": 3.4,
    "EndTxn": 0.34,
    "Fetch": 4.5,
    "DescribeProducers": 1.0,
}
"""Requests for a thousand messages of 2 KB to 16 queues, of drains that each begin and end within 3,000 of them.

Each part of a transaction asks for the partitions that are new in it.
"""
MOST_MEMORY_BYTES = 48 << 20


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Requests by their kind and calls of orjson, while in it."""
    counts: Counter[str] = Counter()

    def counting(function: Any, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return function(*args, **kwargs)

        return call

    send = AIOKafkaConnection.send

    def sending(connection: Any, request: Any, expect_response: bool = True) -> Any:
        counts[type(request).__name__.removesuffix("Request").removeprefix("Lean")] += 1
        return send(connection, request, expect_response)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AIOKafkaConnection, "send", sending)
        patch.setattr(pipeline, "_OPEN_S", 3_600)  # on a slow day, too, a transaction takes what it can
        patch.setattr(orjson, "loads", counting(orjson.loads, "loads"))
        patch.setattr(orjson, "dumps", counting(orjson.dumps, "dumps"))
        yield counts


@pytest.mark.parametrize("native", ["no", pytest.param("yes", marks=needs_native)])
async def test_a_thousand_messages(broker: EmbeddedBroker, native: str) -> None:
    with Scene(
        broker.bootstrap_servers,
        request_timeout_ms=stretched_ms(30_000),
        transaction_timeout_ms=stretched_ms(60_000),
        native=native,
    ) as scene:
        scene.put(_MESSAGES, size=2_000, queues=_QUEUES)
        claim = await claimed(scene, "a")
        async with Cluster(scene.settings) as kafka:
            ledger = Ledger(kafka, scene.settings)
            await ledger.start()
            try:
                drainer = Drainer(kafka, ledger, scene.settings, utc_now, Health())
                # The first one creates the destinations, and fills the caches of names and times.
                await drain(drainer, claim.topic, 0)
                # As if they had been drained before: from then on each looks where it writes for the first time.
                for partition in (1, 2, 3):
                    await (await kafka.producer(f"xferq.drain.{claim.topic}.{partition}")).close()
                gc.collect()
                tracemalloc.start()
                try:
                    with counted() as counts:
                        for partition in (1, 2, 3):
                            await drain(drainer, claim.topic, partition)
                    _, peak = tracemalloc.get_traced_memory()
                finally:
                    tracemalloc.stop()
                await ledger.barrier_all()
                status = ledger.status("a")
            finally:
                await ledger.stop()
    assert status is not None
    assert status.restored == _MESSAGES
    thousands = _MESSAGES * 3 / 4 / 1_000
    # The envelope; and three texts of the log record: what a queue's response or a time looks like is kept.
    loads, dumps = (0, 0) if native == "yes" else (thousands * 1_000, thousands * 4_000)
    assert counts.pop("loads", 0) == loads
    assert dumps <= counts.pop("dumps") <= dumps + 200
    per_thousand = {name: count / thousands for name, count in counts.items()}
    assert per_thousand.keys() <= MOST.keys()
    assert {name: count for name, count in per_thousand.items() if count > MOST[name]} == {}
    assert peak <= MOST_MEMORY_BYTES
