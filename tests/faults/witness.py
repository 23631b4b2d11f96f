"""Watches the ledger while a fault run goes on: is there work, and does it go on when nothing is in its way?"""

import threading
import time
from collections import defaultdict

import orjson
from confluent_kafka import Consumer, KafkaException, TopicPartition

from streams.domain.ledger_partitions import ledger_width
from streams.settings.settings import Settings
from tests.faults.waits import Waited, Waits

_DONE = ("done", "refused")


class Quiet:
    """How many faults are in force."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_force = 0

    def __enter__(self) -> None:
        with self._lock:
            self._in_force += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._in_force -= 1

    @property
    def is_quiet(self) -> bool:
        """None."""
        return self._in_force == 0


class Witness:
    """Follows the ledger as a reader of committed records, in a thread of its own."""

    def __init__(self, servers: str, settings: Settings, quiet: Quiet) -> None:
        self._quiet = quiet
        self._settings = settings
        self._stop = threading.Event()
        self._states: dict[str, str] = {}
        self._expected: set[str] = set()
        self._ranges: dict[tuple[str, str], set[str]] = {}
        self._restored: dict[str, int] = {}
        self._waits = Waits()
        self._lock = threading.Lock()
        self.longest_stall_s = 0.0
        """The longest time without faults in which there was work, and nothing of it was done."""
        self.stalls: dict[int, int] = defaultdict(int)
        """How many stalls there were, by their length in whole seconds."""
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": "witness",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "reconnect.backoff.max.ms": 500,
                "socket.timeout.ms": 5_000,
                "log_level": 0,
            }
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        partitions = range(ledger_width(self._settings.ledger_partitions))
        self._consumer.assign([TopicPartition(self._settings.ledger_topic, number, 0) for number in partitions])
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def expect(self, id: str) -> None:
        """This command was published: from now on there is work, until it has ended."""
        with self._lock:
            if self._states.get(id) not in _DONE:
                self._expected.add(id)
                self._waits.sign(id, "published", time.monotonic())

    def unfinished(self, ids: list[str]) -> int:
        """How many of these commands have not come to their end."""
        with self._lock:
            return sum(self._states.get(id) not in _DONE for id in ids)

    @property
    def is_work_left(self) -> bool:
        """Commands that have not ended, or claims with ranges that are not drained to their end."""
        with self._lock:
            return bool(self._expected) or any(self._ranges.values())

    @property
    def longest_wait(self) -> Waited:
        """The longest time without faults in which one command stood still, whatever others did."""
        return self._waits.longest

    @property
    def restored(self) -> int:
        """Messages moved so far, transfers included."""
        with self._lock:
            return sum(self._restored.values())

    def wait(self, ids: list[str], timeout_s: float) -> list[str]:
        """Wait until these commands have ended; returns those that have not."""
        deadline = time.monotonic() + timeout_s
        while self.unfinished(ids) and time.monotonic() < deadline:
            time.sleep(0.1)
        with self._lock:
            return [f"{id}: {self._states.get(id)}" for id in ids if self._states.get(id) not in _DONE]

    def _run(self) -> None:
        quiet_s = 0.0
        last = time.monotonic()
        while not self._stop.is_set():
            try:
                messages = self._consumer.consume(500, 0.1)
            except KafkaException:
                messages = []
            moved = sum(self._apply(message.key(), message.value()) for message in messages if message.error() is None)
            now = time.monotonic()
            if moved or not self.is_work_left:
                if quiet_s >= 1:
                    self.stalls[int(quiet_s)] += 1
                quiet_s = 0.0
            elif self._quiet.is_quiet:
                quiet_s += now - last
            self.longest_stall_s = max(self.longest_stall_s, quiet_s)
            last = now
            with self._lock:
                self._waits.look(now, is_quiet=self._quiet.is_quiet)

    def _sign(self, id: str, what: str) -> None:
        """A command has got on; one that has ended counts for as long as ranges of it are not drained."""
        if self._states.get(id) in _DONE and not any(claimed == id for _, claimed in self._ranges):
            self._waits.ended(id)
        else:
            self._waits.sign(id, what, time.monotonic())

    def _apply(self, key: bytes | None, value: bytes | None) -> bool:
        """Take a record into account; whether work went on: a claim, a step of a drain, a command's end."""
        kind, _, rest = (key or b"").decode().partition("/")
        if value is None:
            return False
        with self._lock:
            if kind in ("command", "outcome"):
                self._states[rest] = orjson.loads(value)["state"]
                if self._states[rest] in _DONE:
                    self._expected.discard(rest)
                    self._sign(rest, "ended")
                    return True
            elif kind == "claim":
                topic, id = rest.split("/")
                if ranges := set(orjson.loads(value)["ranges"]):
                    self._ranges[(topic, id)] = ranges
                self._sign(id, f"claimed {topic}")
                return True
            elif kind == "drained":
                topic, partition, id = rest.split("/")
                step = orjson.loads(value)
                self._restored[rest] = step["restored"]
                if step["done"]:
                    self._ranges[(topic, id)].discard(partition)
                    if not self._ranges[(topic, id)]:
                        del self._ranges[(topic, id)]
                self._sign(id, f"drained {topic}/{partition} to {step['offset']}")
                return True
        return False
