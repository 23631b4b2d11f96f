"""What a fault run has left in its topics: every record that was committed, in a form that fits into memory.

The workers of a fault run free no space, so all places that a message ever had are still there.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.ledger.keys import HEADS
from streams.settings.settings import Settings
from tests.faults.mail import Headers, Names, message, number_of
from tests.support.patience import WAIT_S, deadline

Place = tuple[int, int, int]
"""A queue topic's number in `Names.topics`, a partition, an offset."""
_READ_S = 5 * WAIT_S
_SHOWN = 20
_TOLD_AGAIN_MS = 660_000
"""An end that could not be told is told again ten minutes after it, in one of the rounds that come each few seconds."""


@dataclass(frozen=True, slots=True)
class Range:
    """What a claim took of one partition; `start` included, `end` not."""

    start: int
    end: int
    id: str
    claimed_at: str


@dataclass(slots=True)
class Drained:
    """What the ledger says of a range at its end."""

    restored: int = 0
    returned: int = 0
    done: bool = False
    lost: bool = False


@dataclass(slots=True)
class Batch:
    """What a dispatcher sent at once, as one member of its group; times in s, `committed_at` if it ever did."""

    by: str
    number: int
    membership: int
    assigned_at: float
    polled_at: float
    topic: int
    ends: dict[int, int]
    committed_at: float | None = None


@dataclass(slots=True)
class History:
    """All of it, by message number and by place."""

    places: dict[int, list[Place]] = field(default_factory=lambda: defaultdict(list))
    logged: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """The AdminRebind records: the numbers of the queue topics that they say the message went to."""
    ranges: dict[tuple[int, int], list[Range]] = field(default_factory=lambda: defaultdict(list))
    """By topic and partition, in their order."""
    drained: dict[tuple[int, int, str], Drained] = field(default_factory=dict)
    confirmed: dict[tuple[int, str], float] = field(default_factory=dict)
    """By topic and claim, when its second look was through, in s; by the broker's clock."""
    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    heads: dict[tuple[int, int], int] = field(default_factory=dict)
    """The groups' committed offsets."""
    sent: dict[Place, list[Batch]] = field(default_factory=lambda: defaultdict(list))
    """What dispatchers have sent."""
    batches: list[Batch] = field(default_factory=list)
    problems: list[tuple[int | None, str]] = field(default_factory=list)
    """Records that are not as they must be, with the message that they are of."""

    def claim_of(self, place: Place) -> Range | None:
        """The range that took what is in this place."""
        topic, partition, offset = place
        ranges = self.ranges.get((topic, partition), [])
        index = bisect_right(ranges, offset, key=lambda taken: taken.start) - 1
        return ranges[index] if index >= 0 and offset < ranges[index].end else None


Record = tuple[str, int, int, bytes | None, bytes | None, Headers, int]
"""Topic, partition, offset, key, value, headers, timestamp."""


def records(servers: str, topics: Iterable[str]) -> Iterator[Record]:
    """All committed records of the topics, each partition's in order."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "history",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "log_level": 0,
        }
    )
    listed = consumer.list_topics(timeout=WAIT_S).topics
    left = {(topic, number) for topic in topics if topic in listed for number in listed[topic].partitions}
    consumer.assign([TopicPartition(topic, number, 0) for topic, number in sorted(left)])
    end = deadline(_READ_S)
    try:
        while left:
            end.check(lambda: f"could not be read to their end: {sorted(left)[:_SHOWN]}")
            for found in consumer.consume(10_000, timeout=0.1):
                error = found.error()
                if error is None:
                    headers = tuple(found.headers() or ())
                    where = found.topic(), found.partition(), found.offset()
                    yield (*where, found.key(), found.value(), headers, found.timestamp()[1])
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard((found.topic(), found.partition()))
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                    raise AssertionError(f"{found.topic()}/{found.partition()} has lost its beginning: {error}")
    finally:
        consumer.close()


class Reading:
    """Makes a history out of the records of a run."""

    def __init__(self, names: Names, settings: Settings) -> None:
        self.history = History()
        self._names = names
        self._numbers = {topic: number for number, topic in enumerate(names.topics)}
        self._queues = {queue: number for number, queue in enumerate([*names.sources, *names.homes, names.transferred])}
        self._batches: dict[tuple[str, int], Batch] = {}
        self._ended: dict[str, int] = {}
        """By command that has ended, when (ms)."""
        self._latest_ms = 0
        self._told: dict[str, tuple[int, str]] = {}
        """By command, the revision and the state of its last result."""
        self._readers: dict[str, Callable[[Record], None]] = {
            settings.ledger_topic: self._ledger,
            settings.log_topic: self._log,
            settings.results_topic: self._result,
            book_of(names): self._book,
        }
        self.topics = [*names.topics, *self._readers]

    def take(self, record: Record) -> None:
        """Take one more record into account."""
        self._readers.get(record[0], self._queue)(record)

    def done(self) -> History:
        """The history, once all was taken."""
        for ranges in self.history.ranges.values():
            ranges.sort(key=lambda taken: taken.start)
        ends = {id: self.history.statuses[id]["state"] for id in self._ended}
        told = {id: state for id, (_, state) in self._told.items()}
        for id in ends.keys() | told.keys():
            # What could not be told, as the topic could not be written, is told again when the command is forgotten.
            is_late = told.get(id, "claimed") == "claimed" and self._latest_ms - self._ended.get(id, 0) < _TOLD_AGAIN_MS
            if told.get(id) != ends.get(id, "claimed") and not is_late:
                problem = f"the results say {told.get(id)} of command {id}, the ledger {ends.get(id)}"
                self.history.problems.append((None, problem))
        self._cover_earlier_batches()
        return self.history

    def _queue(self, record: Record) -> None:
        topic, partition, offset, key, value, headers, timestamp = record
        number = number_of(key)
        if number is None:
            self.history.problems.append((None, f"{topic}/{partition}@{offset} has the key {key!r}"))
            return
        problem = self._names.problem(message(number), topic, value, headers, timestamp)
        if problem is not None:
            self.history.problems.append((number, f"in {topic}/{partition}@{offset} {problem}"))
        self.history.places[number].append((self._numbers[topic], partition, offset))

    def _log(self, record: Record) -> None:
        *_, key, value, headers, _ = record
        about = {name: (value or b"").decode() for name, value in headers}
        line = orjson.loads(value or b"")
        number = number_of(key)
        where = f"{record[0]}/{record[1]}@{record[2]}"
        to = self._queues.get(line.get("queue"))
        content = line.get("response", {}).get("content", "")
        if number is None or line.get("type") != "AdminRebind" or about["type"] != "AdminRebind" or to is None:
            self.history.problems.append((number, f"the log has in {where} {line}"))
        elif (
            line["id"].encode() != key
            or about["destination"] != line["queue"]
            or content != f"Rebound from {about['source']} to {line['queue']}: a fault run"
        ):
            self.history.problems.append((number, f"the log has in {where} the id {line['id']} and {content!r}"))
        else:
            self.history.logged[number].append(to)

    def _result(self, record: Record) -> None:
        topic, partition, offset, key, value, *_ = record
        id, line = (key or b"").decode(), orjson.loads(value or b"{}")
        before, revision = self._told.get(id, (0, ""))[0], line.get("revision", 0)
        if line.get("id") != id or revision < before:
            problem = f"the results have in {topic}/{partition}@{offset} {line}, behind revision {before}"
            self.history.problems.append((None, problem))
        self._told[id] = revision, line.get("state", "")

    def _ledger(self, record: Record) -> None:
        *_, key, value, _, timestamp = record
        self._latest_ms = max(self._latest_ms, timestamp)
        kind, _, rest = (key or b"").decode().partition("/")
        if value is None:
            if kind == "waiting" and f"/{HEADS}/" in rest:
                topic, _, id = rest.split("/")
                self.history.confirmed.setdefault((self._numbers[topic], id), timestamp / 1000)
            return
        line = orjson.loads(value)
        if kind == "outcome":
            self.history.statuses[rest] = line
            self._ended[rest] = timestamp
        elif kind == "command" and rest not in self._ended:
            self.history.statuses[rest] = line
        elif kind == "claim":
            topic, id = rest.split("/")
            number = self._numbers[topic]
            for partition, (start, end) in line["ranges"].items():
                self.history.ranges[(number, int(partition))].append(Range(start, end, id, line["claimed_at"]))
        elif kind == "drained":
            topic, partition, id = rest.split("/")
            where = self._numbers[topic], int(partition), id
            self.history.drained[where] = Drained(
                restored=line["restored"],
                returned=line["returned"],
                done=line["done"],
                lost=line["lost"],
            )

    def _book(self, record: Record) -> None:
        line = orjson.loads(record[4] or b"")
        name = line["by"], line["batch"]
        if "committed_at" in line:
            self._batches[name].committed_at = line["committed_at"]
            return
        topic = self._numbers[line["topic"]]
        batch = Batch(
            *name, line["membership"], line["assigned_at"], line["polled_at"], topic, {p: o for _, p, o in line["sent"]}
        )
        self._batches[name] = batch
        self.history.batches.append(batch)
        for _, partition, offset in line["sent"]:
            self.history.sent[(topic, partition, offset)].append(batch)

    def _cover_earlier_batches(self) -> None:
        """A commit covers what the same membership sent before and could not commit, of the same partitions."""
        later: dict[tuple[str, int, int], float] = {}
        for batch in reversed(self.history.batches):
            for partition in batch.ends:
                where = batch.by, batch.membership, partition
                if batch.committed_at is not None:
                    later[where] = batch.committed_at
            if batch.committed_at is None:
                covered = [later.get((batch.by, batch.membership, partition)) for partition in batch.ends]
                if all(at is not None for at in covered):
                    batch.committed_at = max(at for at in covered if at is not None)


def book_of(names: Names) -> str:
    """The topic in which dispatchers write down what they have sent."""
    return f"{names.run}.dispatched"


def read_history(servers: str, names: Names, settings: Settings) -> History:
    """The history of a run; the heads are not in it yet."""
    reading = Reading(names, settings)
    for record in records(servers, reading.topics):
        reading.take(record)
    return reading.done()


def story_of(servers: str, names: Names, settings: Settings, number: int) -> list[str]:
    """All that the topics say of one message, in the order of the records' times where they have any."""
    wanted = message(number).key
    found = []
    for topic, partition, offset, key, value, headers, _ in records(servers, Reading(names, settings).topics):
        where = f"{topic}/{partition}@{offset}"
        if key == wanted:
            text = value if topic == settings.log_topic else dict(headers).get("envelope")
            found.append(f"{where}: {(text or b'').decode()[:500]}")
        elif topic == book_of(names) and b'"%b"' % wanted in (value or b""):
            entry = orjson.loads(value or b"")
            place = next(place for place in entry["sent"] if place[0].encode() == wanted)
            found.append(f"{where}: sent {place[1:]} by {entry['by']}, batch {entry['batch']}, at {entry['polled_at']}")
    return found
