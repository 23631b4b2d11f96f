"""An ordinary dispatcher, which sends at least once: `python dispatcher.py QUEUE-TOPIC`. Needs confluent-kafka."""

import os
import sys

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

SERVERS = os.environ.get("XFERQ_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
GROUP = os.environ.get("XFERQ_GROUP_TEMPLATE", "xferq.dispatch.{topic}")


def send(message: Message) -> None:
    """Where the mail is sent; it may come here again after a crash or an eviction."""
    print("sent", (message.key() or b"").decode(), flush=True)


def lost(_: Consumer, partitions: list[TopicPartition]) -> None:
    """What we had polled of these is not ours any more: a cancel has taken it, or another member has it now."""
    print("lost", *sorted(where.partition for where in partitions), flush=True)


def dispatch(topic: str) -> None:
    """Poll, send, commit, for ever."""
    consumer = Consumer(
        {
            "bootstrap.servers": SERVERS,
            "group.id": GROUP.replace("{topic}", topic),  # its committed offset is the queue's head
            "isolation.level": "read_committed",  # what an aborted transaction left in the queue is no message
            "auto.offset.reset": "earliest",  # a group without an offset has sent nothing yet
            "enable.auto.commit": False,
        }
    )
    # Partitions come and go only within poll. What it gave is committed before the next one, or never: once we are a
    # member again Kafka would take the commit of what was polled before, and the head would go back.
    consumer.subscribe([topic], on_revoke=lost, on_lost=lost)
    while True:
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            print("trouble", message.error(), flush=True)
            continue
        send(message)
        try:
            consumer.commit(message, asynchronous=False)  # after it was sent: a crash in between sends it again
        except KafkaException as error:
            # Evicted by a cancel, or Kafka is away. Sent it is, though it is not committed; never commit it later.
            print("uncommitted", error, flush=True)


if __name__ == "__main__":
    dispatch(sys.argv[1])
