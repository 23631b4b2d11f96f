"""What goes on all the time in a fault run: messages come in, cancels and transfers are asked for."""

import json
import random
import threading
import time
from functools import partial
from typing import Any

from confluent_kafka import Producer

from streams.settings.settings import Settings
from tests.faults.mail import Names, message
from tests.faults.witness import Witness

_TICK_S = 0.02
_FOR_EVER_MS = 86_400_000


def durable_producer(servers: str) -> Producer:
    """A producer that gives up on nothing."""
    return Producer(
        {
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.timeout.ms": _FOR_EVER_MS,
            "queue.buffering.max.messages": 2_000_000,
            "log_level": 0,
        }
    )


class _Going:
    """A thread that goes on until it is stopped; an error in it comes out there."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - raised again by stop
            self._error = error

    def _run(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """End, and wait until it has."""
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error


class Injector(_Going):
    """Puts messages into the xfer queues, at a steady pace."""

    def __init__(self, servers: str, names: Names, per_second: float) -> None:
        super().__init__()
        self._producer = durable_producer(servers)
        self._names = names
        self._per_second = per_second
        self.sent = 0
        """How many were handed to Kafka; their numbers go from 0 to this."""
        self.acknowledged = bytearray()
        """By number: 1 where Kafka has said that it has the message."""

    def _run(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(_TICK_S):
            wanted = int((time.monotonic() - began) * self._per_second)
            while self.sent < wanted:
                self._put(self.sent)
                self.sent += 1
            self._producer.poll(0)

    def _put(self, number: int) -> None:
        item = message(number)
        self.acknowledged.append(0)
        self._producer.produce(
            self._names.source_topics[item.source],
            item.value,
            item.key,
            item.partition,
            headers=list(self._names.headers(item)),
            timestamp=item.timestamp,
            on_delivery=partial(self._delivered, number),
        )

    def _delivered(self, number: int, error: object, _: object) -> None:
        self.acknowledged[number] = error is None

    def stop(self) -> None:
        """End, and wait until Kafka has all of it."""
        super().stop()
        self._producer.flush(120)


class Operator(_Going):
    """Asks for cancels and transfers, some twice, some at once, some again long after."""

    def __init__(self, servers: str, names: Names, settings: Settings, witness: Witness, seed: int) -> None:
        super().__init__()
        self._producer = durable_producer(servers)
        self._names = names
        self._settings = settings
        self._witness = witness
        self._random = random.Random(seed)
        self._records: list[tuple[bytes, bytes]] = []
        self.ids: list[str] = []

    _MOST_OPEN = 12

    def _run(self) -> None:
        while not self._stop.wait(self._random.uniform(0.1, 0.8)):
            self._producer.poll(0)
            if self._witness.unfinished(self.ids[-50:]) < self._MOST_OPEN:
                self._ask()

    def _ask(self) -> None:
        chance = self._random.random()
        if chance < 0.12:
            homes = self._random.choice([[0], [1], [0, 1]])
            self.transfer([self._names.homes[home] for home in homes])
            if self._random.random() < 0.5:  # of the same messages, at about the same time
                self.cancel(self._names.transferred)
        elif chance < 0.30:
            self.cancel(self._names.transferred)
        elif chance < 0.40:
            queue = self._random.choice(self._names.sources)
            self.cancel(queue)
            self.cancel(queue)
        elif chance < 0.48:
            self._again(self._random.randrange(max(0, len(self._records) - 20), len(self._records) or 1))
        else:
            self.cancel(self._random.choice(self._names.sources))

    def cancel(self, queue: str) -> str:
        """Publish a cancel, some of them twice; its id."""
        return self._publish(queue, {"type": "xfer.cancel", "queue_name": queue, "reason": "a fault run"})

    def transfer(self, queues: list[str]) -> str:
        """Publish a transfer of these scheduled queues; its id."""
        target = self._names.target
        return self._publish(
            target, {"type": "xfer.start", "target": target, "queue_names": queues, "reason": "a fault run"}
        )

    def _publish(self, key: str, command: dict[str, Any]) -> str:
        id = f"c{len(self.ids)}"
        self.ids.append(id)
        self._records.append((key.encode(), json.dumps({"id": id, **command}).encode()))
        self._again(len(self._records) - 1)
        if self._random.random() < 0.1:
            self._again(len(self._records) - 1)
        return id

    def _published(self, id: str, error: object, _: object) -> None:
        if error is None:
            self._witness.expect(id)

    def _again(self, number: int) -> None:
        """Publish a record, to any partition: the same command may come to another worker the next time."""
        if number < len(self._records):
            key, value = self._records[number]
            partition = self._random.randrange(self._settings.commands_partitions)
            published = partial(self._published, json.loads(value)["id"])
            self._producer.produce(self._settings.commands_topic, value, key, partition, on_delivery=published)

    def last_cancels(self) -> list[str]:
        """After all else: a cancel of every xfer queue."""
        ids = [self.cancel(queue) for queue in (*self._names.sources, self._names.transferred)]
        self.flush()
        return ids

    def flush(self) -> None:
        """Wait until Kafka has all commands."""
        self._producer.flush(120)
