"""Entries about xferq's own topics: lost, restored, moved, blocked, read by another version."""

import asyncio
import json
import re
import zlib
from datetime import UTC, datetime

import pytest

from streams.kafka.cluster import Cluster
from streams.kafka.layout import apply_layout
from tests.broker import checker
from tests.broker.moments import claimed
from tests.broker.scene import Scene, wait_until
from tests.runbook.hanging import hang
from tests.runbook.installation import RUNBOOK, Installation, blocks

pytestmark = pytest.mark.alone


def forgets(installation: Installation) -> None:
    """What was known of the ledger is forgotten: it is another one now."""
    installation.moves()


async def test_a_transaction_that_hangs_in_the_ledger(own: Installation) -> None:
    _, find, abort = blocks("a-transaction-hangs")
    scene, reader = own.scene, own.reader()
    scene.put(400)
    await claimed(scene, "a")
    settings = scene.settings
    partition = zlib.crc32(scene.topic.encode()) % settings.ledger_partitions
    offset = await hang(scene.servers, settings.ledger_topic, partition)
    await asyncio.to_thread(_seen_and_ended, own, find, abort, (settings.ledger_topic, str(partition), str(offset)))
    await asyncio.to_thread(scene.done)
    assert reader.types(find, NODE=1).count(settings.ledger_topic) == 0
    assert scene.problems() == []


def _seen_and_ended(own: Installation, find: str, abort: str, where: tuple[str, str, str]) -> None:
    worker = own.starts_worker()
    worker.says("drain.again")
    said = f"error=reading what the ledger says about {own.scene.topic}: a transaction is open"
    assert said in worker.log
    (line,) = (line.split() for line in own.reader().types(find, NODE=1).splitlines() if line.startswith(where[0]))
    assert (line[0], line[1], line[5]) == where
    own.reader().types(abort, HANGING=line[0], PARTITION=line[1], OFFSET=line[5])


async def test_all_of_xferqs_own_topics_are_lost(own: Installation) -> None:
    check, with_backup, _ = blocks("a-lost-topic")
    backup, idle = blocks("backup-of-the-ledger")
    scene, reader = own.scene, own.reader()
    scene.put(400)
    await asyncio.to_thread(own.starts_worker)
    scene.cancel("a")
    await asyncio.to_thread(scene.done)
    wait_until(lambda: "\nxferq_claims_unfinished 0.0\n" in own.metrics())
    reader.types(idle)
    await asyncio.to_thread(own.stops_worker)
    scene.put(400)
    await claimed(scene, "b")
    (count,) = re.findall(r"(\d+) records", reader.types(backup))
    settings = scene.settings
    # Not the delivery log, by which the checker goes.
    for topic in (settings.commands_topic, settings.drains_topic, settings.ledger_topic):
        scene.delete(topic)
    lost = scene.worker()
    assert await asyncio.to_thread(lost.wait) == 1
    assert re.search(r"topic \S+ \(XFERQ_\w+_TOPIC\) does not exist: create it with `xferq topics`", lost.log)
    assert re.search(rf"{re.escape(settings.ledger_topic)} +missing", reader.types(check, status=1))
    assert f"{count} records are in {settings.ledger_topic}" in reader.types(with_backup)
    forgets(own)
    worker = await asyncio.to_thread(own.starts_worker)
    await asyncio.to_thread(scene.done)
    assert scene.problems() == []
    assert reader.types(check).count("missing") == 0
    assert worker.is_running


async def test_the_ledger_is_lost_without_a_backup(own: Installation) -> None:
    """With the heads left where they are, nothing of what was claimed is freed, until somebody commits them anew."""
    _, _, without = blocks("a-lost-topic")
    scene = own.scene
    scene.put(400)
    await claimed(scene, "lost")
    scene.ids.clear()
    other = Scene(
        scene.servers,
        **{name: value for name, value in scene.values.items() if "topic" in name or "group_template" in name},
    )
    other.create({other.topic: 4})
    other.put(40)
    await claimed(other, "lost")
    scene.delete(scene.settings.ledger_topic)
    own.reader().types(without, TOPIC=scene.topic, GROUP=scene.group)
    forgets(own)
    own.moves(space_s=0.2)
    worker = await asyncio.to_thread(own.starts_worker)
    await asyncio.to_thread(worker.says, f"maintenance.not_freed topic={other.topic} partitions=[0, 1, 2, 3]")
    assert set(checker.log_starts(scene.servers, other.topic).values()) == {0}
    other.commit(other.committed())
    ends = checker.log_ends(scene.servers, other.topic)
    await asyncio.to_thread(wait_until, lambda: checker.log_starts(scene.servers, other.topic) == ends)
    assert worker.log.count(f"maintenance.not_freed topic={other.topic}") == 1  # it was tried again and again
    scene.cancel("again")
    ledger = await asyncio.to_thread(scene.done)
    assert (ledger.status("again") or {})["restored"] == 400
    assert scene.problems() == []
    scene.delete(other.topic)


async def test_moving_to_other_topics(own: Installation) -> None:
    look, backup, restore = blocks("moving-to-other-topics")
    scene = own.scene
    scene.put(400)
    api = own.starts_api()
    reader = own.reader()
    await asyncio.to_thread(own.starts_worker)
    scene.cancel("a")
    await asyncio.to_thread(scene.done)
    seen = await asyncio.to_thread(reader.types, look)
    assert re.search(r"^a +done +400 ", seen, re.MULTILINE)
    assert re.search(rf" {re.escape(scene.settings.commands_topic)} +\d+ +\S+ +\S+ +(0|-) ", seen)
    api.end()
    await asyncio.to_thread(own.stops_worker)
    heads = scene.ledger(0.1).heads(scene.topic)
    reader.types(backup)
    names = {f"{role}_topic": f"{scene.name}.other-{role}" for role in ("commands", "drains", "ledger")}
    own.moves(**names, ledger_partitions=7, drains_partitions=3)
    said = await asyncio.to_thread(own.reader().types, restore)
    assert f"records are in {scene.name}.other-ledger" in said
    await asyncio.to_thread(own.starts_worker)
    own.starts_api()
    assert "400" in await asyncio.to_thread(own.reader().types, "xferq status a")
    assert scene.ledger(0.2).heads(scene.topic) == heads
    scene.put(40)
    scene.cancel("b")
    await asyncio.to_thread(scene.done)
    assert scene.problems() == []  # each record in the partition where it belongs, too


async def _right_topics(installation: Installation) -> None:
    """What `xferq topics` does: the tests' own are not all as they should be."""
    async with Cluster(installation.scene.settings) as kafka:
        assert all(report.is_good for report in await apply_layout(kafka.connection, kafka.settings))


def test_workers_are_replaced_one_by_one_and_a_later_version_leaves_its_mark(installation: Installation) -> None:
    before, after = blocks("upgrade-and-roll-back")
    scene, reader, queue = installation.scene, installation.reader(), installation.world.queue()
    asyncio.run(_right_topics(installation))
    assert reader.types(before).startswith("xferq ")
    other = installation.world.worker(metrics_port=0)
    old = installation.worker
    queue.put(*queue.messages(8))
    # What a later version might write: a field that is not known, and a claim that can't be understood.
    ledger, partition = scene.settings.ledger_topic, zlib.crc32(queue.topic.encode()) % scene.settings.ledger_partitions
    status = {"id": "later", "state": "done", "queue_name": queue.name, "restored": 3, "of_later": {"a": 1}}
    status["requested_at"] = datetime.now(UTC).isoformat()  # the newest ones are listed, and others ran here before
    scene.publish(ledger, b"command/later", json.dumps(status).encode(), partition)
    scene.publish(ledger, f"claim/{queue.topic}/later".encode(), b'{"ranges": "elsewhere"}', partition)
    installation.stops_worker()
    other.says("worker.assigned", times=2)
    assert queue.cancelled()["restored"] == 8  # by the other one meanwhile
    assert installation.starts_worker() is not old
    installation.stops_worker(other)
    seen = reader.types(after)
    assert '{"status": "ok"}' in seen
    assert re.search(r"^later +done +3 ", seen, re.MULTILINE)
    queue.put(*queue.messages(8))
    assert queue.cancelled()["restored"] == 8
    assert "ledger.unreadable_record" in installation.worker.log
    installation.worker.says(f"maintenance.not_freed topic={queue.topic}")
    assert set(checker.log_starts(scene.servers, queue.topic).values()) == {0}
    assert len(queue.restored()) == 16


def test_the_sizes_on_the_page(installation: Installation) -> None:
    page = RUNBOOK.read_text(encoding="utf-8")
    said = {
        name: int(value.replace(",", ""))
        for name, value in re.findall(r"<!-- size: ([\w ]+) -->([\d,]+)<!-- /size -->", page)
    }
    queue = installation.world.queue()
    queue.put(*queue.messages(40, tenant="mytenant"))
    id = installation.world.done(queue.cancel())["id"]
    values = checker.read_ledger(queue.servers, installation.scene.settings.ledger_topic).values
    sizes = {key: len(key) + len(json.dumps(value)) + _BATCH for key, value in values.items()}
    topic = queue.topic
    command = sizes[f"command/{id}"] + sizes[f"claim/{topic}/{id}"]
    end = sizes[f"outcome/{id}"] + sum(size for key, size in sizes.items() if key.startswith(f"id/{id}/"))
    progress, head = sizes[f"drained/{topic}/0/{id}"], sizes[f"head/{topic}/0"]
    lines = [
        len(record.key or b"") + len(record.value or b"") + sum(len(n) + len(v or b"") for n, v in record.headers)
        for record, _ in queue.log()
    ]
    assert len(lines) == 40
    found = {"log record": sum(lines) // 40, "command": command, "progress": progress, "end": end, "head": head}
    assert said.keys() == found.keys()
    for name, size in found.items():
        assert said[name] / 2 < size <= said[name], found


_BATCH = 70
"""What Kafka writes around a record that is alone in its batch."""
