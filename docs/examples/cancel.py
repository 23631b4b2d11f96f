"""Cancels a transfer by a command on Kafka, and follows it to its end: `python cancel.py QUEUE REASON [ID]`.

Needs confluent-kafka. QUEUE is an xfer queue's name. With the ID of an earlier try, the same command is sent again.
Ends when the command has: with status 1 where it was refused.
"""

import json
import os
import sys
import uuid

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

SERVERS = os.environ.get("XFERQ_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
COMMANDS = os.environ.get("XFERQ_COMMANDS_TOPIC", "xferq.commands")
LOG = os.environ.get("XFERQ_LOG_TOPIC", "delivery-log")
RESULTS = os.environ.get("XFERQ_RESULTS_TOPIC", "xferq.results")


def publish(queue: str, reason: str, id: str) -> None:
    """Publish the command; it is durable when this returns."""
    # With an id of its own a command may be sent again after a failure: twice with the same id is one cancel.
    command = {"type": "xfer.cancel", "queue_name": queue, "reason": reason, "id": id}
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


def reader(*topics: str) -> Consumer:
    """A consumer of all that is written to the topics from now on."""
    consumer = Consumer(
        {
            "bootstrap.servers": SERVERS,
            "group.id": f"example-{uuid.uuid4()}",  # of this run alone: it commits nothing
            # Log and results are written in the transactions that make them true. One that was aborted leaves records
            # of what never was; only a reader of what is committed does not see them.
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
        }
    )
    places = []
    for topic in topics:
        for partition in consumer.list_topics(topic, timeout=30).topics[topic].partitions:
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
            places.append(TopicPartition(topic, partition, end))
    consumer.assign(places)
    return consumer


def follow(consumer: Consumer, id: str) -> dict:
    """Print the id of each message that the command moves, and where it is now; returns the command's end."""
    moved, result = 0, None
    # Results and log come from different partitions: the end may be seen before the last moves.
    while result is None or moved < result["restored"]:
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            raise KafkaException(message.error())
        if message.topic() == RESULTS:
            value = json.loads(message.value()) if message.key() == id.encode() else {}
            if value.get("state") in ("done", "refused"):
                result = value
        elif dict(message.headers() or ()).get("command_id") == id.encode():
            moved += 1
            print(json.loads(message.value())["id"], dict(message.headers())["destination"].decode(), flush=True)
    return result


def main(queue: str, reason: str, id: str | None = None) -> int:
    """The exit status."""
    id = id or f"cancel-{uuid.uuid4()}"
    consumer = reader(LOG, RESULTS)  # before the command is sent, or it would miss the first records
    try:
        publish(queue, reason, id)
        result = follow(consumer, id)
    finally:
        consumer.close()
    print(f"{result['state']}: {result['restored']} restored, {result['returned']} returned", file=sys.stderr)
    return 0 if result["state"] == "done" else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
