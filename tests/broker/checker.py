"""An independent look at what cancels have left behind: reads topics, nothing else, with another Kafka library.

What must hold, however often workers and brokers died meanwhile:
- each message is in exactly one place: its scheduled queue, or still in the xfer queue (at or past its head);
- its key, bytes, timestamp and other headers are what they were, its envelope is restored;
- there is exactly one AdminRebind record for each restored one, and none for any other;
- messages of one source partition stand in their queue in the order that they had, in the right partition;
- claimed ranges don't overlap, and the numbers in the status are those of the messages that are there.
"""

import itertools
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.domain.topic import topic_of
from tests.support.patience import WAIT_S, deadline

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Sent:
    """A message as it was put into an xfer queue, and the scheduled queue that a cancel must bring it to."""

    id: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp: int
    partition: int
    queue: str
    restorable: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """A committed record as it is in a topic."""

    topic: str
    partition: int
    offset: int
    id: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp: int


def read(servers: str, topics: Collection[str]) -> dict[str, list[Found]]:
    """All committed records that are in the topics, by topic, in the order of each partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "checker",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 20,
            "log_level": 0,
        }
    )
    found: dict[str, list[Found]] = {topic: [] for topic in topics}
    try:
        listed = consumer.list_topics(timeout=WAIT_S).topics
        left = {(topic, number) for topic in topics if topic in listed for number in listed[topic].partitions}
        consumer.assign([TopicPartition(topic, number, 0) for topic, number in sorted(left)])
        end = deadline()
        while left:
            end.check(lambda: f"could not be read to their end: {sorted(left)[:_SHOWN]}")
            for message in consumer.consume(5_000, timeout=0.05):
                where = message.topic(), message.partition()
                error = message.error()
                if error is None:
                    record = Found(
                        *where,
                        message.offset(),
                        message.key(),
                        message.value(),
                        tuple(message.headers() or ()),
                        message.timestamp()[1],
                    )
                    found[record.topic].append(record)
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(where)
                else:
                    raise AssertionError(error)
    finally:
        consumer.close()
    return found


def offsets(servers: str, topic: str, spec: OffsetSpec, *, stable: bool = False) -> dict[int, int]:
    """One offset for each partition of a topic."""
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    partitions = admin.list_topics(topic, timeout=WAIT_S).topics[topic].partitions
    level = IsolationLevel.READ_COMMITTED if stable else IsolationLevel.READ_UNCOMMITTED
    futures = admin.list_offsets({TopicPartition(topic, number): spec for number in partitions}, isolation_level=level)
    return {where.partition: future.result(WAIT_S).offset for where, future in futures.items()}


def is_ready(servers: str, topic: str) -> bool:
    """Whether a topic is there, and its leaders answer for it."""
    try:
        return bool(log_starts(servers, topic))
    except (KafkaException, KeyError):
        return False


def log_starts(servers: str, topic: str) -> dict[int, int]:
    """The lowest offsets that are still there."""
    return offsets(servers, topic, OffsetSpec.earliest())


def log_ends(servers: str, topic: str, *, stable: bool = False) -> dict[int, int]:
    """The high watermarks, or the last stable offsets."""
    return offsets(servers, topic, OffsetSpec.latest(), stable=stable)


def open_transactions(servers: str, topics: Iterable[str]) -> list[str]:
    """The partitions in which a transaction is open: the last stable offset is below the high watermark."""
    found = []
    for topic in topics:
        stable = log_ends(servers, topic, stable=True)
        for partition, end in log_ends(servers, topic).items():
            if stable[partition] < end:
                found.append(f"{topic}/{partition}: {stable[partition]} < {end}")
    return found


class LedgerView:
    """What the ledger says, read by its keys: the last value of each."""

    def __init__(self, records: Iterable[Found] = ()) -> None:
        self.values: dict[str, Any] = {}
        self.partitions: dict[str, int] = {}
        for record in records:
            self.apply(record)

    def apply(self, record: Found) -> None:
        """Take one more record into account."""
        key = (record.id or b"").decode()
        self.partitions[key] = record.partition
        if record.value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = json.loads(record.value)

    def claims(self, topic: str) -> list[dict[str, Any]]:
        """All claims of a queue topic."""
        return [value for key, value in self.values.items() if key.startswith(f"claim/{topic}/")]

    def status(self, id: str) -> dict[str, Any] | None:
        """How a command has ended; until then its recorded status."""
        return self.values.get(f"outcome/{id}") or self.values.get(f"command/{id}")

    def heads(self, topic: str) -> dict[int, int]:
        """Where the topic's last claims end, by partition."""
        prefix = f"head/{topic}/"
        return {
            int(key[len(prefix) :]): value["offset"] for key, value in self.values.items() if key.startswith(prefix)
        }

    def progress(self, topic: str, id: str) -> dict[int, dict[str, Any]]:
        """How far one claim's ranges are drained, by partition."""
        found = {}
        for key, value in self.values.items():
            kind, _, rest = key.partition("/")
            if kind == "drained":
                where, partition, claim = rest.split("/")
                if (where, claim) == (topic, id):
                    found[int(partition)] = value
        return found


def read_ledger(servers: str, topic: str) -> LedgerView:
    """The ledger as it is now."""
    return LedgerView(read(servers, [topic])[topic])


def problems(
    servers: str,
    *,
    xfer_queue: str,
    sent: Sequence[Sent],
    ids: Collection[str],
    ledger_topic: str,
    log_topic: str,
    all_restored: bool = True,
) -> list[str]:
    """What is not as it must be after cancels of one xfer queue; empty where all is well.

    Args:
        servers: where Kafka is.
        xfer_queue: the queue that was cancelled.
        sent: all that was ever put into it, in order.
        ids: the commands, all of which must be done.
        ledger_topic: the ledger.
        log_topic: the delivery log.
        all_restored: nothing may be left in the queue but what could not be restored.
    """
    source = topic_of(xfer_queue)
    destinations = {topic_of(message.queue): message.queue for message in sent}
    found = read(servers, [source, log_topic, ledger_topic, *destinations])
    ledger = LedgerView(found[ledger_topic])
    heads = ledger.heads(source)
    restored = [record for topic in destinations for record in found[topic]]
    remaining = [record for record in found[source] if record.offset >= heads.get(record.partition, 0)]
    wrong = [
        *_misplaced(sent, restored, remaining, all_restored),
        *_changed(sent, restored, remaining, destinations),
        *_unlogged(restored, found[log_topic], destinations, xfer_queue),
        *_disordered(sent, restored),
        *_overlapping(ledger.claims(source)),
        *_miscounted(ledger, ids, source, len(restored)),
    ]
    ledger_partitions = len(log_starts(servers, ledger_topic)) // 2
    for key, partition in ledger.partitions.items():
        kind, _, rest = key.partition("/")
        belongs = zlib.crc32(rest.split("/")[0].encode()) % ledger_partitions
        if kind == "drained":
            belongs = ledger_partitions + zlib.crc32(rest.rpartition("/")[0].encode()) % ledger_partitions
        if kind not in ("command", "outcome", "control", "barrier") and partition != belongs:
            wrong.append(f"{key} is in ledger partition {partition}")
    return wrong


def _misplaced(
    sent: Sequence[Sent], restored: Sequence[Found], remaining: Sequence[Found], all_restored: bool
) -> list[str]:
    places: dict[bytes | None, list[str]] = defaultdict(list)
    for record in (*restored, *remaining):
        places[record.id].append(f"{record.topic}/{record.partition}@{record.offset}")
    wrong = []
    lost = [message.id for message in sent if message.id not in places]
    if lost:
        wrong.append(f"lost: {len(lost)}, such as {lost[:_SHOWN]}")
    doubled = [id for id, where in places.items() if len(where) > 1]
    if doubled:
        wrong.append(f"doubled: {len(doubled)}, such as {[(id, places[id]) for id in doubled[:_SHOWN]]}")
    unknown = places.keys() - {message.id for message in sent}
    if unknown:
        wrong.append(f"never sent: {len(unknown)}")
    ours = {record.id for record in remaining}
    left = [message.id for message in sent if message.restorable and message.id in ours]
    if all_restored and left:
        wrong.append(f"left in the xfer queue: {len(left)}, such as {left[:_SHOWN]}")
    return wrong


def _changed(
    sent: Sequence[Sent], restored: Sequence[Found], remaining: Sequence[Found], destinations: Mapping[str, str]
) -> list[str]:
    by_id = {message.id: message for message in sent}
    wrong = []
    for record in restored:
        message = by_id.get(record.id or b"")
        if message is None:
            continue
        if destinations[record.topic] != message.queue:
            wrong.append(f"{message.id!r} is in {record.topic}, not in the topic of {message.queue}")
        if record.value != message.value or record.timestamp != message.timestamp:
            wrong.append(f"{message.id!r} has other bytes or another timestamp")
        if _others(record.headers) != _others(message.headers):
            wrong.append(f"{message.id!r} has other headers: {_others(record.headers)}")
        wrong += _envelope_problems(message, record)
    for record in remaining:
        message = by_id.get(record.id or b"")
        if message is not None and (record.value, record.headers) != (message.value, message.headers):
            wrong.append(f"{message.id!r} in the xfer queue is not what it was")
    return wrong[: 2 * _SHOWN]


def _others(headers: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes] | str]:
    """The headers, with only the place of the envelope."""
    return [name if name == "envelope" else (name, value) for name, value in headers]


def _envelope_problems(message: Sent, record: Found) -> list[str]:
    before = json.loads(dict(message.headers)["envelope"])
    after = json.loads(dict(record.headers)["envelope"])
    info = before["meta"].get("xfer_queue_info") or {}
    expected = {name: value for name, value in before["meta"].items() if name not in ("queue", "xfer_queue_info")}
    expected |= {name: info[name] for name in ("queue", "routing_domain", "tenant", "campaign") if name in info}
    wrong = []
    if after["meta"] != expected:
        wrong.append(f"{message.id!r} has metadata {after['meta']}, not {expected}")
    if after["num_attempts"] != info.get("num_attempts", 0):
        wrong.append(f"{message.id!r} has {after['num_attempts']} attempts")
    if after.get("schedule") != info.get("schedule"):
        wrong.append(f"{message.id!r} has the schedule {after.get('schedule')}")
    if (after["sender"], after["recipient"]) != (before["sender"], before["recipient"]):
        wrong.append(f"{message.id!r} has another sender or recipient")
    return wrong


def _unlogged(
    restored: Sequence[Found], log: Sequence[Found], destinations: Mapping[str, str], xfer_queue: str
) -> list[str]:
    there = Counter((record.id or b"").decode() for record in restored)
    logged: Counter[str] = Counter()
    wrong = []
    queue_of = {(record.id or b"").decode(): destinations[record.topic] for record in restored}
    for record in log:
        line = json.loads(record.value or b"")
        if line["type"] != "AdminRebind" or dict(record.headers).get("type") != b"AdminRebind":
            wrong.append(f"not an AdminRebind record: {line}")
            continue
        id = line["id"]
        logged[id] += 1
        if record.id != id.encode() or line["queue"] != queue_of.get(id):
            wrong.append(f"{id} is logged with key {record.id!r} and queue {line['queue']}")
        if not line["response"]["content"].startswith(f"Rebound from {xfer_queue} to {line['queue']}: "):
            wrong.append(f"{id} is logged with {line['response']['content']}")
    if logged != there:
        wrong.append(
            f"logged otherwise than restored: {len(logged - there)} too often, such as "
            f"{list(logged - there)[:_SHOWN]}, {len(there - logged)} too seldom"
        )
    return wrong[: 2 * _SHOWN]


def _disordered(sent: Sequence[Sent], restored: Sequence[Found]) -> list[str]:
    number = {message.id: index for index, message in enumerate(sent)}
    source = {message.id: message.partition for message in sent}
    partitions: dict[str, int] = {}
    last: dict[tuple[str, int, int], int] = {}
    wrong = []
    for record in restored:
        if record.id not in number:
            continue
        came_from = source[record.id]
        partitions[record.topic] = max(partitions.get(record.topic, 0), record.partition)
        where = (record.topic, record.partition, came_from)
        if last.get(where, -1) > number[record.id]:
            wrong.append(f"{record.id!r} stands behind a later one of partition {came_from} in {record.topic}")
        last[where] = number[record.id]
    by_source: dict[tuple[str, int], set[int]] = defaultdict(set)
    for topic, partition, came_from in last:
        by_source[(topic, came_from)].add(partition)
    wrong += [
        f"messages of partition {came_from} are in partitions {sorted(there)} of {topic}"
        for (topic, came_from), there in by_source.items()
        if len(there) > 1
    ]
    return wrong[: 2 * _SHOWN]


def _overlapping(claims: Iterable[Mapping[str, Any]]) -> list[str]:
    ranges: dict[tuple[str, str], list[tuple[int, int, str]]] = defaultdict(list)
    for claim in claims:
        for partition, (start, end) in claim["ranges"].items():
            ranges[(claim["topic_id"], partition)].append((start, end, claim["id"]))
    wrong = []
    for (_, partition), taken in ranges.items():
        taken.sort()
        for before, after in itertools.pairwise(taken):
            if after[0] < before[1]:
                wrong.append(f"claims overlap in partition {partition}: {before} and {after}")
    return wrong


def _miscounted(ledger: LedgerView, ids: Collection[str], topic: str, restored: int) -> list[str]:
    wrong = []
    counted = 0
    for id in ids:
        status = ledger.status(id)
        if status is None or status["state"] != "done":
            wrong.append(f"command {id} is not done: {status}")
            continue
        steps = ledger.progress(topic, id)
        sums = {name: sum(step[name] for step in steps.values()) for name in ("restored", "returned")}
        if {name: status[name] for name in sums} != sums or status["total"] != sum(sums.values()):
            wrong.append(f"command {id} says {status}, its progress {sums}")
        if status["returned"] != sum(status["returned_reasons"].values()):
            wrong.append(f"command {id} gives reasons for another number than {status['returned']}: {status}")
        counted += status["restored"]
    if counted != restored:
        wrong.append(f"the commands together restored {counted}, but {restored} messages are there")
    return wrong
