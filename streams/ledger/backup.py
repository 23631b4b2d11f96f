"""A copy of the ledger outside Kafka, as lines of JSON: for the day on which the topic is lost, or must be replaced.

The first line says what the file is. Then comes a line for each key with its last value. The last line tells their
number: a file that was cut off is no backup.
"""

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from streams.domain.ledger_partitions import ledger_width, partition_of_record, wrong_width
from streams.domain.timestamp import format_time
from streams.errors import Misconfigured, Refused, Unavailable
from streams.lookup import find_topic, read_to
from streams.ports import Kafka, Topic
from streams.records import Tail
from streams.settings.settings import Settings

_WHAT = "backup of xferq's ledger"
_VERSION = 2
_VERSIONS = (1, 2)
"""Those that are understood; the first has the progress of drains by other keys, which are understood as well."""
_AT_ONCE = 500
_BYTES_AT_ONCE = 4 << 20


async def read_ledger(kafka: Kafka, settings: Settings) -> dict[bytes, bytes]:
    """All keys of the ledger with their last values, of all that was written until now.

    Raises:
        Misconfigured: there is no such topic, or it has another number of partitions than the settings say.
        Unavailable: it can't be read to its end.
    """
    topic = await _topic(kafka, settings)
    # The progress of drains first: where it was removed by then, so was its claim, of which it would look as if it had
    # never been drained.
    claims = range(settings.ledger_partitions)
    marks = await kafka.high_watermarks(topic.name, range(len(claims), topic.partitions), latest_of=topic.id)
    marks |= await kafka.high_watermarks(topic.name, claims, latest_of=topic.id)
    found: dict[bytes, bytes] = {}
    tail = await kafka.tail(topic.name, await kafka.log_starts(topic.name, range(topic.partitions)))
    try:
        # As long as a transaction may be open that a producer has left there.
        async with asyncio.timeout((settings.transaction_timeout_ms + 15_000) / 1000):
            await _read_to(tail, marks, marks, found)
            # What compaction has taken away before the marks while this was read stands behind them.
            ends = await kafka.high_watermarks(topic.name, range(topic.partitions), latest_of=topic.id)
            await _read_to(tail, ends, marks, found)
    except TimeoutError:
        raise Unavailable(f"reading topic {topic.name}: it can't be read to its end") from None
    finally:
        await tail.close()
    return found


async def _read_to(tail: Tail, ends: Mapping[int, int], marks: Mapping[int, int], found: dict[bytes, bytes]) -> None:
    """Read on. What was removed behind the marks stays: one partition may not be read as far as the other by then."""
    async for record in read_to(tail, ends):
        if record.value is not None:
            found[record.key or b""] = record.value
        elif record.offset < marks[record.partition]:
            found.pop(record.key or b"", None)


async def write_ledger(kafka: Kafka, settings: Settings, values: Mapping[bytes, bytes]) -> None:
    """Put what a backup holds into a ledger that holds nothing else; may be repeated where it was broken off.

    Raises:
        Refused: something else is in the ledger, or workers are there that would go by half of it.
        Misconfigured, Unavailable: as `read_ledger`; what was written until then stays.
    """
    topic = await _topic(kafka, settings)
    if await kafka.members(settings.worker_group):
        raise Refused(f"workers are running (group {settings.worker_group}): stop them, and the api, before")
    there = await read_ledger(kafka, settings)
    others = sum(values.get(key) != value for key, value in there.items())
    if others:
        raise Refused(f"topic {topic.name} holds {others} records that are not in the backup: it must be a new one")
    by_partition: dict[int, list[tuple[bytes, bytes | None]]] = {}
    for key, value in sorted(values.items(), key=_claimed_at):
        by_partition.setdefault(partition_of_record(key, value, settings.ledger_partitions), []).append((key, value))
    for partition, records in by_partition.items():
        for piece in _pieces(records):
            await kafka.publish(topic.name, piece, partition=partition)


def dump_backup(values: Mapping[bytes, bytes], settings: Settings, now: datetime) -> Iterator[str]:
    """The backup's lines, without their ends."""
    yield json.dumps({"what": _WHAT, "version": _VERSION, "topic": settings.ledger_topic, "taken_at": format_time(now)})
    for key, value in sorted(values.items()):
        yield json.dumps({"key": _text(key), "value": _text(value)})
    yield json.dumps({"records": len(values)})


def load_backup(lines: Iterable[str]) -> dict[bytes, bytes]:
    """What is in a backup.

    Raises:
        Refused: it is none, or not whole.
    """
    try:
        head, *records, end = [json.loads(line) for line in lines]
        if head["what"] != _WHAT or head["version"] not in _VERSIONS:
            raise ValueError
        values = {_bytes(record["key"]): _bytes(record["value"]) for record in records}
        count = end["records"]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Refused(f"this is no {_WHAT}, or not a whole one") from None
    if count != len(values):
        raise Refused(f"this {_WHAT} is not whole: {len(values)} of {count} records are there")
    return values


async def _topic(kafka: Kafka, settings: Settings) -> Topic:
    topic = await find_topic(kafka, settings.ledger_topic)
    if topic is None:
        raise Misconfigured(f"topic {settings.ledger_topic} (XFERQ_LEDGER_TOPIC) does not exist")
    if topic.partitions != ledger_width(settings.ledger_partitions):
        raise Misconfigured(wrong_width(topic.name, topic.partitions, settings.ledger_partitions))
    return topic


def _claimed_at(record: tuple[bytes, bytes]) -> str:
    """The order in which claims were made, with their heads, is that of the ledger; all else comes first."""
    key, value = record
    try:
        return str(json.loads(value)["claimed_at"]) if key.startswith((b"claim/", b"head/")) else ""
    except (ValueError, KeyError, TypeError):
        return ""


def _pieces(records: list[tuple[bytes, bytes | None]]) -> Iterator[list[tuple[bytes, bytes | None]]]:
    piece: list[tuple[bytes, bytes | None]] = []
    size = 0
    for key, value in records:
        piece.append((key, value))
        size += len(key) + len(value or b"")
        if len(piece) >= _AT_ONCE or size >= _BYTES_AT_ONCE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


# What is no UTF-8 comes back as it was.
def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
