"""A dispatcher that claims what it sends: `python claiming_dispatcher.py QUEUE-TOPIC NAME`. Needs confluent-kafka.

No cancel takes what it has claimed, and it never sends what a cancel has taken. It claims a few messages by moving them
into a topic of its own, in one transaction, and sends them from there, each at most once. NAME is its own and stays the
same from start to start. After an error it ends: have it started again.
"""

import os
import random
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

SERVERS = os.environ.get("XFERQ_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
GROUP = os.environ.get("XFERQ_GROUP_TEMPLATE", "xferq.dispatch.{topic}")
CLAIM_ID = "xferq.claim.{topic}"
"""xferq's own: who takes it over ends the transaction of whoever had it before."""
AT_ONCE = 25
WAIT_S = 30
KEPT_MS = 365 * 24 * 60 * 60 * 1000
_READER = {
    "bootstrap.servers": SERVERS,
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    "enable.auto.commit": False,
}


class Claimer:
    """The right to claim, until somebody else takes it over: every call fails from then on."""

    def __init__(self, topic: str, outbox: str) -> None:
        """Take it over."""
        self._outbox = outbox
        self._producer = Producer(
            {"bootstrap.servers": SERVERS, "transactional.id": CLAIM_ID.format(topic=topic), "log_level": 0}
        )
        self._producer.init_transactions(WAIT_S)
        # Only now is the head certain: whoever was claiming before has done so, or can't any more.
        self._reader = Consumer({**_READER, "group.id": GROUP.replace("{topic}", topic)})
        partitions = self._reader.list_topics(topic, WAIT_S).topics[topic].partitions
        heads = self._reader.committed([TopicPartition(topic, number) for number in partitions], WAIT_S)
        self._reader.assign(heads)

    def look(self) -> list[Message]:
        """What comes next in the queue; not ours yet."""
        return [message for message in self._reader.consume(AT_ONCE, 0.2) if message.error() is None]

    def claim(self, messages: list[Message]) -> None:
        """Move messages into the outbox and the queue's head past them, in one transaction: then they are ours."""
        ends = {message.partition(): message.offset() + 1 for message in messages}
        self._producer.begin_transaction()
        for message in messages:
            self._producer.produce(self._outbox, message.value(), message.key(), headers=message.headers())
        self._producer.send_offsets_to_transaction(
            [TopicPartition(messages[0].topic(), partition, end) for partition, end in ends.items()],
            self._reader.consumer_group_metadata(),
            WAIT_S,
        )
        # If the answer is lost, nobody knows what has become of it. That does no harm: what the outbox holds is ours.
        self._producer.commit_transaction(WAIT_S)

    def close(self) -> None:
        """Give up the reader; the right goes by itself."""
        self._reader.close()


class Sender:
    """Sends what is in the outbox, one after the other."""

    def __init__(self, outbox: str) -> None:
        """Become the outbox's reader: another one of this name can't go on from here."""
        self._consumer = Consumer({**_READER, "group.id": outbox, "group.instance.id": outbox})
        self._consumer.subscribe([outbox], on_assign=self._tell_doubts)

    def send_all(self) -> None:
        """Send all that there is now."""
        while (message := self._consumer.poll(0.2)) is not None:
            if message.error():
                if message.error().code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    return  # just made, and this broker has not heard of it yet
                raise SystemExit(f"reading the outbox: {message.error()}")
            key = (message.key() or b"").decode(errors="backslashreplace")
            # Committed before it is sent: it is never sent again. The offset's metadata says that it is under way.
            self._commit(message, key)
            send(key, message)
            self._commit(message, "")

    def _commit(self, message: Message, under_way: str) -> None:
        behind = TopicPartition(message.topic(), message.partition(), message.offset() + 1, metadata=under_way)
        try:
            self._consumer.commit(offsets=[behind], asynchronous=False)
        except KafkaException as error:
            raise SystemExit(f"the outbox is read by another one, or Kafka is away: {error}") from None

    def _tell_doubts(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Say what was under way when the one before us died: it may have been sent, or not."""
        for where in consumer.committed(partitions, WAIT_S):
            if where.metadata:
                print("in doubt", where.metadata, flush=True)


def send(key: str, message: Message) -> None:
    """Where the mail is sent."""
    print("sent", key, flush=True)


def create(outbox: str) -> None:
    """Create the outbox if it is not there. One partition: the order stays. Kept for longer than we are ever away."""
    admin = AdminClient({"bootstrap.servers": SERVERS})
    topic = NewTopic(outbox, 1, config={"retention.ms": str(KEPT_MS)})
    try:
        admin.create_topics([topic])[outbox].result(WAIT_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


def dispatch(topic: str, name: str) -> None:
    """Claim a few, send them, for ever."""
    outbox = f"outbox.{name}"
    create(outbox)
    sender = Sender(outbox)
    while True:
        claimer = None
        try:
            claimer = Claimer(topic, outbox)
            while True:
                sender.send_all()
                if messages := claimer.look():
                    claimer.claim(messages)
        except KafkaException as error:
            print("not claimed", error, flush=True)
        if claimer:
            claimer.close()
        # Most likely it was a cancel. Let it have its turn, or the two would end each other's transactions for ever.
        sender.send_all()
        time.sleep(random.uniform(0.5, 1))  # noqa: S311 - no secret


if __name__ == "__main__":
    dispatch(*sys.argv[1:])
