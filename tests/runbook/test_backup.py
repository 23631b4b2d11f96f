"""A backup of the ledger: what goes in comes out, and nothing else is taken for one. No Kafka is needed for that."""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from streams.domain.ledger_partitions import ledger_width, partition_of, progress_partition
from streams.errors import Misconfigured, Refused
from streams.kafka.acls import acl_commands
from streams.ledger.backup import dump_backup, load_backup, read_ledger, write_ledger
from streams.ledger.ledger import Ledger
from streams.settings.settings import Settings
from tests.api.processes import environment, xferq
from tests.fakes.broker import Broker
from tests.fakes.kafka import FakeKafka
from tests.pages import ROOT, code_blocks, sections

QUEUE = "http://a.example/.xfer.kumomta.internal"
TOPIC = "queue.http-3a-2f-2fa.example-2f.xfer.kumomta.internal"
NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
VALUES = {
    f"claim/{TOPIC}/a".encode(): b'{"a": 1}',
    f"head/{TOPIC}/0".encode(): b'{"offset": 3}',
    f"tally/{TOPIC}/a".encode(): b'{"queues": 1}',
    f"drained/{TOPIC}/1/a".encode(): b'{"offset": 2}',
    b"command/a": json.dumps({"queue_name": QUEUE}).encode(),
    b"outcome/a": json.dumps({"queue_name": QUEUE}).encode(),
    b"control/a": json.dumps({"queue_name": QUEUE}).encode(),
    b"command/none": b"{}",
    b"command/odd": b'{"queue_name": "\\ud800"}',
    b"command/\xff": b"\xfe \x00 no JSON",
}


def settings(**values: Any) -> Settings:
    return Settings(**{"ledger_partitions": 5, **values})


def lines(values: dict[bytes, bytes] = VALUES) -> list[str]:
    return list(dump_backup(values, settings(), NOW))


def test_what_goes_in_comes_out() -> None:
    assert all(line.isascii() and "\n" not in line for line in lines())
    assert load_backup(lines()) == VALUES
    assert load_backup(lines({})) == {}


def test_one_of_an_earlier_version_is_understood() -> None:
    first, *others = lines()
    assert load_backup([first.replace('"version": 2', '"version": 1'), *others]) == VALUES


def broken() -> Iterator[list[str]]:
    whole = lines()
    yield []
    yield from (whole[:end] for end in range(1, len(whole)))  # cut off anywhere
    yield whole[1:]
    yield [*whole[:2], *whole[3:]]
    yield [*whole[:3], whole[3][: len(whole[3]) // 2]]
    yield [whole[0].replace('"version": 2', '"version": 3'), *whole[1:]]
    yield ["{}", "{}"]
    yield ["[]", "[]"]
    yield [whole[0], '{"key": 1, "value": "x"}', '{"records": 1}']


@pytest.mark.parametrize("text", list(broken()))
def test_what_is_no_whole_backup_is_refused(text: list[str]) -> None:
    with pytest.raises(Refused, match="backup of xferq's ledger"):
        load_backup(text)


async def fake(values: Settings) -> tuple[Broker, FakeKafka]:
    broker = Broker()
    broker.create(values.ledger_topic, ledger_width(values.ledger_partitions))
    return broker, FakeKafka(broker, values)


@pytest.mark.parametrize("partitions", [1, 5, 8])
async def test_restored_each_record_is_where_it_belongs(partitions: int) -> None:
    wanted = settings(ledger_partitions=partitions)
    _, kafka = await fake(wanted)
    await write_ledger(kafka, wanted, VALUES)
    assert await read_ledger(kafka, wanted) == VALUES
    await write_ledger(kafka, wanted, VALUES)  # broken off, perhaps
    ledger = Ledger(kafka, wanted)
    topic = kafka.broker.topics[wanted.ledger_topic]
    progress = f"drained/{TOPIC}/1/a".encode()
    (where,) = {p for p, log in enumerate(topic.logs) for record in log.all_records() if record.key == progress}
    assert where == ledger.progress_partition(TOPIC, 1)
    about = dict.fromkeys((b"command/a", b"outcome/a", b"control/a"), TOPIC)
    of_queue = {**about, f"claim/{TOPIC}/a".encode(): TOPIC, f"tally/{TOPIC}/a".encode(): TOPIC}
    for key, name in {**of_queue, b"command/none": "none"}.items():
        (where,) = {p for p, log in enumerate(topic.logs) for record in log.all_records() if record.key == key}
        assert where == ledger.partition_of(name)


async def test_what_was_removed_is_not_backed_up() -> None:
    wanted = settings()
    _, kafka = await fake(wanted)
    await kafka.publish(wanted.ledger_topic, [(b"command/a", b"1"), (b"command/b", b"2")], partition=0)
    await kafka.publish(wanted.ledger_topic, [(b"command/a", b"3"), (b"command/b", None)], partition=0)
    assert await read_ledger(kafka, wanted) == {b"command/a": b"3"}


async def test_of_what_is_forgotten_meanwhile_no_claim_is_kept_without_its_progress() -> None:
    """1. The marks are taken up to which is read. 2. The claim is removed, and then its progress."""
    wanted = settings()
    claim, progress = f"claim/{TOPIC}/a", f"drained/{TOPIC}/1/a"
    broker = Broker()
    broker.create(wanted.ledger_topic, ledger_width(wanted.ledger_partitions))
    kafka = _Forgetting(broker, wanted, claim, progress)
    places = partition_of(TOPIC, 5), progress_partition(TOPIC, 1, 5)
    for key, where in zip((claim, progress), places, strict=True):
        await kafka.publish(wanted.ledger_topic, [(key.encode(), b"1")], partition=where)
    found = await read_ledger(kafka, wanted)
    assert progress.encode() in found or claim.encode() not in found


class _Forgetting(FakeKafka):
    """Forgets a claim while marks are taken."""

    def __init__(self, broker: Broker, settings: Settings, *keys: str) -> None:
        super().__init__(broker, settings)
        self._keys = keys

    async def high_watermarks(self, topic: str, partitions: Iterable[int], **options: Any) -> dict[int, int]:
        marks = await super().high_watermarks(topic, partitions, **options)
        if len(self.broker.topics[topic].logs) != len(marks):  # the first of two looks
            claim, progress = self._keys
            await self.publish(topic, [(claim.encode(), None)], partition=partition_of(TOPIC, 5))
            await self.publish(topic, [(progress.encode(), None)], partition=progress_partition(TOPIC, 1, 5))
        return marks


async def test_what_compaction_has_left_of_a_key_is_there_however_late_it_was_written() -> None:
    wanted = settings()
    broker = Broker()
    broker.create(wanted.ledger_topic, ledger_width(wanted.ledger_partitions))
    kafka = _Rewriting(broker, wanted)
    await kafka.publish(wanted.ledger_topic, [(b"command/a", b"1")], partition=0)
    assert await read_ledger(kafka, wanted) == {b"command/a": b"2"}


class _Rewriting(FakeKafka):
    """Writes a key anew once the marks are taken; of what it said before, compaction leaves nothing."""

    async def tail(self, topic: str, starts: Mapping[int, int]) -> Any:
        await self.publish(topic, [(b"command/a", b"2")], partition=0)
        self.broker.topics[topic].logs[0].start = 1
        return await super().tail(topic, {**starts, 0: 1})


async def test_a_ledger_with_anything_else_in_it_is_refused() -> None:
    wanted = settings()
    _, kafka = await fake(wanted)
    await kafka.publish(wanted.ledger_topic, [(b"command/a", b"other"), (b"command/b", b"2")], partition=0)
    with pytest.raises(Refused, match="holds 2 records that are not in the backup"):
        await write_ledger(kafka, wanted, VALUES)
    assert await read_ledger(kafka, wanted) == {b"command/a": b"other", b"command/b": b"2"}


async def test_nothing_is_written_while_workers_run() -> None:
    wanted = settings()
    broker, kafka = await fake(wanted)
    broker.group(wanted.worker_group).join()
    with pytest.raises(Refused, match="workers are running"):
        await write_ledger(kafka, wanted, VALUES)
    assert await read_ledger(kafka, wanted) == {}


async def test_a_ledger_that_is_not_there_or_not_as_the_settings_say() -> None:
    _, kafka = await fake(settings())
    with pytest.raises(Misconfigured, match="has 10 partitions, but XFERQ_LEDGER_PARTITIONS is 6"):
        await write_ledger(kafka, settings(ledger_partitions=6), VALUES)
    with pytest.raises(Misconfigured, match=r"no-such-topic .* does not exist"):
        await read_ledger(kafka, settings(ledger_topic="no-such-topic"))


def test_the_command_line_takes_no_other_file(tmp_path: Path) -> None:
    env = environment({"XFERQ_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, tmp_path)
    (tmp_path / "rubbish").write_bytes(b"\xff\n\x00")
    ended = xferq("restore", str(tmp_path / "rubbish"), env=env, status=1)
    assert ended.stderr == "xferq: this is no backup of xferq's ledger, or not a whole one\n"


def test_the_commands_for_acls_are_those_of_the_page(tmp_path: Path) -> None:
    page = sections(ROOT / "docs" / "acls.md")
    printed = xferq("acls", env=environment({}, tmp_path)).stdout.strip()
    parts = {part: code_blocks(text)[0].strip() for part, text in page.items()}
    assert printed == " \\\n&& ".join(parts.values())
    assert acl_commands(Settings(), "worker") == parts["worker"]
