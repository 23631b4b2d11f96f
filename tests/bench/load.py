"""Messages to measure with: the same for every contender."""

import random
from collections.abc import Iterable

import confluent_kafka
import orjson

XFER_QUEUE = "http://bench.invalid/.xfer.kumomta.internal"
_CREATED = "2026-11-20T10:00:00Z"


def fill(bootstrap: str, topic: str, *, messages: int, size: int, partitions: int, queues: int, family: str) -> float:
    """Write transferred messages to an xfer topic, spread over its partitions; their average size in bytes.

    Each goes back to one of `queues` scheduled queues of that `family`. The bodies
    do not compress well, as mail does not.
    """
    noise = random.Random(1).randbytes(size + 4096)
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 20,
            "batch.size": 900_000,
            "queue.buffering.max.kbytes": 256 << 10,
            "queue.buffering.max.messages": 200_000,
        }
    )
    written = 0
    for number in range(messages):
        envelope = orjson.dumps(envelope_of(number % queues, family))
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
                )
                break
            except BufferError:
                producer.poll(0.1)
        if number % 1000 == 0:
            producer.poll(0)
    producer.flush(120)
    return written / max(messages, 1)


def envelope_of(queue: int, family: str) -> dict[str, object]:
    """The envelope of a message that belongs to scheduled queue number `queue`."""
    return {
        "sender": "newsletter@example.com",
        "recipient": f"someone@d{queue}.{family}.example",
        "meta": {
            "queue": XFER_QUEUE,
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
