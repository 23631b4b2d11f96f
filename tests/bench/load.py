"""Messages to measure with: the same for every contender."""

import base64
import random
from collections.abc import Iterable
from typing import Any

import confluent_kafka
import orjson

XFER_QUEUE = "http://bench.invalid/.xfer.kumomta.internal"
_CREATED = "2026-11-20T10:00:00Z"


def fill(
    bootstrap: str,
    topic: str,
    *,
    messages: int,
    size: int,
    partitions: int,
    queues: int,
    family: str,
    xfer_queue: str = XFER_QUEUE,
    compression: str = "none",
    metadata: int = 0,
) -> float:
    """Write transferred messages to an xfer topic, spread over its partitions; their average size in bytes.

    Each goes back to one of `queues` scheduled queues of that `family`. The bodies are text that does not compress
    well, as mail with attachments does not. `metadata` is so many bytes more in each envelope.
    """
    noise = base64.encodebytes(random.Random(1).randbytes(size + 4096))
    more = {f"x-header-{number}": "x" * 64 for number in range(metadata // 80)}
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 20,
            "batch.size": 900_000,
            "message.max.bytes": 4 << 20,
            "compression.type": compression,
            "queue.buffering.max.kbytes": 256 << 10,
            "queue.buffering.max.messages": 200_000,
        }
    )
    written = 0
    for number in range(messages):
        plain = envelope_of(number % queues, family, xfer_queue)
        envelope = orjson.dumps(plain | {"meta": plain["meta"] | more} if more else plain)
        start = number % 4096
        value = noise[start : start + size]
        written += len(envelope) + len(value)
        while True:
            try:
                producer.produce(
                    topic,
                    value,
                    key=b"%016x" % number,
                    partition=number % partitions,
                    headers=[("envelope", envelope), ("received", b"10.0.0.1")],
                    on_delivery=_delivered,
                )
                break
            except BufferError:
                producer.poll(0.1)
        if number % 1000 == 0:
            producer.poll(0)
    if left := producer.flush(120):
        raise SystemExit(f"{left} messages could not be written in time")
    return written / max(messages, 1)


def _delivered(error: confluent_kafka.KafkaError | None, _: confluent_kafka.Message) -> None:
    if error is not None:
        raise confluent_kafka.KafkaException(error)


def envelope_of(queue: int, family: str, xfer_queue: str = XFER_QUEUE) -> dict[str, Any]:
    """The envelope of a message that belongs to scheduled queue number `queue`."""
    return {
        "sender": "newsletter@example.com",
        "recipient": f"someone@d{queue}.{family}.example",
        "meta": {
            "queue": xfer_queue,
            "xfer_queue_info": {"campaign": "spring", "tenant": f"t{queue % 7}", "num_attempts": 2, "due": _CREATED},
            "reception_protocol": "ESMTP",
            "received_from": "10.0.0.1:34567",
            "hostname": "mail.example.com",
        },
        "num_attempts": 3,
        "created": _CREATED,
        "due": None,
        "schedule": None,
    }


def scheduled_queues(count: int, family: str) -> Iterable[str]:
    """The names of the queues that the messages go back to."""
    return (f"spring:t{queue % 7}@d{queue}.{family}.example" for queue in range(count))
