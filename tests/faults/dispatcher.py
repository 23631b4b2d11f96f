"""A dispatcher of a fault run, a process: at least once, as a mail platform would have it, with a book in Kafka.

`python -m tests.faults.dispatcher NAME SERVERS TOPIC GROUP BOOK PER_SECOND COMMITS_AFTER_S`. It polls a few
messages, writes into the book (a topic) that it sent them, and commits them then; that it committed them is written
as well. It may be killed or stopped at any moment. It ends with its standard input.
"""

import os
import signal
import sys
import threading
import time
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

_AT_ONCE = 20


class Dispatcher:
    """One member of a queue's group."""

    def __init__(
        self, name: str, servers: str, topic: str, group: str, book: str, per_second: float, commits_after_s: float
    ) -> None:
        self._name = name
        self._topic = topic
        self._book = book
        self._pause_s = _AT_ONCE / per_second
        self._commits_after_s = commits_after_s
        self._membership = 0
        self._assigned_at = 0.0
        self._batch = 0
        self._leaving = False
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                "linger.ms": 0,
                "message.timeout.ms": 3_600_000,
                "log_level": 0,
            }
        )
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "session.timeout.ms": 6_000,
                "heartbeat.interval.ms": 1_000,
                "socket.timeout.ms": 10_000,
                "topic.metadata.refresh.interval.ms": 5_000,
                "log_level": 0,
            }
        )

    def run(self) -> None:
        """Dispatch until it is told to leave."""
        self._consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._lost, on_lost=self._lost)
        while not self._leaving:
            messages = [message for message in self._consumer.consume(_AT_ONCE, 0.2) if message.error() is None]
            if messages:
                self._send(messages)
                time.sleep(self._pause_s * len(messages) / _AT_ONCE)
        self._consumer.close()

    def leave(self, *_: object) -> None:
        """Leave the group when what is under way is done, and end."""
        self._leaving = True

    def _assigned(self, _: Any, __: list[TopicPartition]) -> None:
        self._membership += 1
        self._assigned_at = time.time()

    def _lost(self, _: Any, __: list[TopicPartition]) -> None:
        self._membership += 1

    def _send(self, messages: list[Any]) -> None:
        membership = self._membership
        self._batch += 1
        entry = {
            "by": self._name,
            "batch": self._batch,
            "membership": membership,
            "assigned_at": self._assigned_at,
            "polled_at": time.time(),
            "topic": self._topic,
            "sent": [[message.key().decode(), message.partition(), message.offset()] for message in messages],
        }
        self._write(entry)
        time.sleep(self._commits_after_s)
        ends: dict[int, int] = {}
        for message in messages:
            ends[message.partition()] = message.offset() + 1
        if membership != self._membership:
            return  # another membership's: not ours to commit any more
        try:
            answer = self._consumer.commit(
                offsets=[TopicPartition(self._topic, p, o) for p, o in ends.items()], asynchronous=False
            )
        except KafkaException:
            return  # with the next ones, if we are still a member then
        if answer is None or all(where.error is None for where in answer):
            self._write({"by": self._name, "batch": self._batch, "committed_at": time.time()})

    def _write(self, entry: dict[str, Any]) -> None:
        self._producer.produce(self._book, orjson.dumps(entry), self._name.encode())
        if self._producer.flush(3_600) != 0:
            os._exit(1)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """The process."""
    name, servers, topic, group, book, per_second, commits_after_s = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    dispatcher = Dispatcher(name, servers, topic, group, book, float(per_second), float(commits_after_s))
    signal.signal(signal.SIGTERM, dispatcher.leave)
    dispatcher.run()


if __name__ == "__main__":
    main()
