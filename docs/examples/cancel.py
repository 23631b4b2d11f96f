"""Cancels a transfer by a command on Kafka, and follows the delivery log: `python cancel.py QUEUE REASON`.

Needs confluent-kafka. QUEUE is an xfer queue's name. Goes on until Ctrl-C.
"""

import json
import os
import sys
import uuid

from confluent_kafka import Consumer, KafkaException, Producer

SERVERS = os.environ.get("XFERQ_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
COMMANDS = os.environ.get("XFERQ_COMMANDS_TOPIC", "xferq.commands")
LOG = os.environ.get("XFERQ_LOG_TOPIC", "delivery-log")


def publish(queue: str, reason: str) -> None:
    """Publish the command; it is durable when this returns."""
    # With an id of its own a command may be sent again after a failure: twice with the same id is one cancel.
    command = {"type": "xfer.cancel", "queue_name": queue, "reason": reason, "id": f"cancel-{uuid.uuid4()}"}
    # murmur2, as Java's clients: all commands of a queue come to one partition, in their order.
    producer = Producer({"bootstrap.servers": SERVERS, "enable.idempotence": True, "partitioner": "murmur2_random"})
    failures = []
    producer.produce(
        COMMANDS,
        json.dumps(command),
        queue,
        on_delivery=lambda error, _: failures.append(error) if error else None,
    )
    if producer.flush(30) or failures:
        raise SystemExit(f"not published: {failures or 'no answer'}")


def follow(queue: str) -> None:
    """Print the id of each message that comes out of the queue, and where it is now."""
    consumer = Consumer(
        {
            "bootstrap.servers": SERVERS,
            "group.id": "example-cancel",
            # The log is written in the transactions that move the messages. One that was aborted leaves records of
            # moves that never were; only a reader of what is committed does not see them.
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([LOG])
    try:
        while True:
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error():
                raise KafkaException(message.error())
            record = json.loads(message.value())
            if record["response"]["content"].startswith(f"Rebound from {queue} to "):
                print(record["id"], record["queue"], flush=True)
            # Only now, when it was dealt with: after a crash it comes again.
            consumer.commit(message, asynchronous=False)
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()


if __name__ == "__main__":
    publish(*sys.argv[1:])
    follow(sys.argv[1])
