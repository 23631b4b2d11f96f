"""Entries about queues: what an operator sees, does, and sees again."""

import asyncio
import re
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from streams.domain.topic import topic_of
from streams.kafka.wire.records import MAX_BATCH_RECORDS
from tests.broker import checker
from tests.broker.scene import WAIT_S, wait_until
from tests.broker.test_waiting import hanging, leave_pending
from tests.broker.world import XferQueue
from tests.outside import bombs
from tests.runbook.hanging import hang
from tests.runbook.installation import Installation, blocks
from tests.support.patience import deadline

pytestmark = pytest.mark.alone


@pytest.fixture
def queue(installation: Installation) -> XferQueue:
    """An xfer queue of the test's own."""
    return installation.world.queue()


@pytest.fixture
def blocked(queue: XferQueue) -> Iterator[XferQueue]:
    """A queue with a batch that no worker may unpack, and that is dispatched in part: its drain stands still there."""
    asyncio.run(bombs.write(queue.servers, queue.topic, 0, bombs.batch_of_many("zstd", MAX_BATCH_RECORDS + 1)))
    assert queue.commit({0: 5})
    queue.put(*queue.messages(16))
    return queue


def unblock(installation: Installation, queue: XferQueue, offset: int) -> None:
    """Delete the batch as the page says."""
    _, delete = blocks("a-drain-stands-still")
    installation.reader().types(delete, TOPIC=queue.topic, PARTITION=0, OFFSET=offset)


def test_a_drain_that_stands_still(installation: Installation, blocked: XferQueue) -> None:
    look, _ = blocks("a-drain-stands-still")
    id = blocked.cancel()
    reader, worker = installation.reader(), installation.worker
    worker.says(f"drain.again id={id} topic={blocked.topic}", times=3)
    wait_until(lambda: "can't get on" in installation.readyz())
    wait_until(lambda: f"waiting/{blocked.topic}/0/{id}" in installation.scene.ledger(0.1).values)
    seen = reader.types(look, ID=id)
    assert "can't get on" in seen
    assert f"waiting for {blocked.topic}/0: " in seen
    assert "state:            claimed" in seen
    assert re.search(r"^xferq_waiting 1\.0$", seen, re.MULTILINE)
    assert re.search(r"^xferq_waiting_seconds [1-9]", seen, re.MULTILINE)
    assert re.search(r"^xferq_claims_unfinished ", seen, re.MULTILINE)
    assert installation.scene.settings.worker_group in seen
    offset = re.search(r"the batch that ends at offset (\d+) would unpack to more than a worker may hold", seen)
    assert offset is not None
    unblock(installation, blocked, int(offset[1]))
    assert "state:            done" in reader.types(f"xferq status {id} --wait")
    status = installation.world.done(id)
    assert (status["restored"], status["returned"]) == (16, 0)
    assert "messages were lost" in status["detail"]
    wait_until(lambda: "\nxferq_waiting 0.0\n" in installation.metrics())


def test_offsets_that_were_reset_or_expired(installation: Installation, blocked: XferQueue) -> None:
    look, retention, reset = blocks("group-offsets-expired-or-rewound")
    reader, worker = installation.reader(), installation.worker
    names = {"TOPIC": blocked.topic, "GROUP": blocked.group}
    id = blocked.cancel()
    worker.says(f"drain.again id={id} topic={blocked.topic}")
    heads = blocked.heads()
    reader.types(reset, **names)
    wait_until(lambda: f"topic={blocked.topic}" in _after(worker.log, "claim.head_restored"))
    wait_until(lambda: blocked.heads() == heads)
    # As if they had expired.
    wait_until(lambda: _deletes(installation, blocked.group))
    wait_until(lambda: blocked.heads() == heads)
    seen = reader.types(look, **names)
    for partition, head in heads.items():
        assert re.search(rf"{re.escape(blocked.topic)} +{partition} +{head} ", seen)
    (restored,) = re.findall(r"^xferq_heads_restored_total (\d+)", seen, re.MULTILINE)
    assert int(restored) >= 2
    assert "offsets.retention.minutes=525600" in reader.types(retention, NODE=1)
    unblock(installation, blocked, MAX_BATCH_RECORDS)
    assert installation.world.done(id)["restored"] == 16
    assert len(blocked.restored()) == 16


def _after(log: str, event: str) -> str:
    return "\n".join(line for line in log.splitlines() if event in line)


def _deletes(installation: Installation, group: str) -> bool:
    """Delete a group; false while the claim's own seat is in it."""
    command = 'kafka-consumer-groups.sh --bootstrap-server "$KAFKA" --delete --group "$GROUP"'
    return "was successful" in installation.reader().types(f"{command} || true", GROUP=group)


def test_a_worker_that_is_fenced(installation: Installation, queue: XferQueue) -> None:
    (look,) = blocks("a-fenced-worker")
    worker = installation.worker
    queue.put(*queue.messages(6_000))
    id = queue.cancel()
    worker.says(f"drain.started id={id}")
    # Somebody who takes the drain for their own, until it has been noticed.
    before, end = worker.log.count("another producer took over"), deadline()
    while worker.log.count("another producer took over") == before:
        end.check()
        other = Producer(
            {
                "bootstrap.servers": queue.servers,
                "transactional.id": f"xferq.drain.{queue.topic}.0",
                "log_level": 0,
            }
        )
        other.init_transactions(WAIT_S)
    assert "drain.again" in _after(worker.log, "another producer took over")
    seen = installation.reader().types(look, TOPIC=queue.topic, PARTITION=0)
    assert re.search(r'^xferq_producers_replaced_total\{error="Fenced",work="drain"\} [1-9]', seen, re.MULTILINE)
    assert f"xferq.drain.{queue.topic}.0" in seen
    assert installation.scene.settings.worker_group in seen
    assert installation.world.done(id)["restored"] == 6_000
    assert len(queue.restored()) == 6_000


def test_a_command_that_is_not_wanted_any_more(installation: Installation, queue: XferQueue) -> None:
    """A stranger's transaction that commits offsets of the queue's group keeps it waiting."""
    look, withdraw = blocks("a-command-waits-and-is-not-wanted-any-more")
    reader = installation.reader()
    queue.put(*queue.messages(8))
    with hanging(installation.world) as stranger:
        leave_pending(stranger, queue)
        id = queue.cancel()
        installation.worker.says(f"command.again id={id} queue=")
        wait_until(lambda: "state:            waiting" in reader.types(f"xferq status {id} || true"))
        assert "detail:" in reader.types(look, ID=id)
        reader.types(withdraw, ID=id)
        ended = reader.types(f"xferq status {id} --wait", status=1)
    assert "state:            refused" in ended
    assert re.search(r"^detail: +it was withdrawn by \S+: not needed any more$", ended, re.MULTILINE)
    reader.types(withdraw, ID=id)  # once more does no harm
    assert len(queue.remaining()) == 8


def test_a_transaction_that_hangs_in_a_queue(installation: Installation, queue: XferQueue) -> None:
    look, find, abort = blocks("a-transaction-hangs")
    reader = installation.reader()
    offset = asyncio.run(hang(queue.servers, queue.topic, 2))
    queue.put(*queue.messages(8))
    assert queue.cancelled()["restored"] == 6  # those behind it in partition 2 are hidden
    seen = reader.types(look, GROUP=queue.group)
    depths = dict(re.findall(r"^(http\S+) +(\d+) +0$", seen, re.MULTILINE))
    assert depths[queue.name] == "0"
    assert re.search(rf"{re.escape(queue.topic)} +2 +\S+ +3 +\S+ ", seen)  # its end, which nobody gets to
    found = reader.types(find, NODE=1)
    (line,) = (line.split() for line in found.splitlines() if line.startswith(queue.topic))
    assert (line[1], line[5]) == ("2", str(offset))
    reader.types(abort, HANGING=line[0], PARTITION=line[1], OFFSET=line[5])
    assert queue.topic not in reader.types(find, NODE=1)
    assert queue.cancelled()["restored"] == 2
    assert len(queue.restored()) == 8


def test_a_transaction_that_hangs_under_a_drain_s_own_id(own: Installation) -> None:
    """As Kafka leaves it where a partition had no leader when it was aborted: the next commit would commit it."""
    _, _, abort = blocks("a-transaction-hangs")
    scene, reader = own.scene, own.reader()
    scene.put(80)
    lost = scene.sent[0]  # what an aborted transaction wrote, and the next one has to write again
    places = {topic_of(lost.queue): 0, scene.settings.log_topic: 0}
    scene.create({topic_of(lost.queue): 4})
    starts = {
        topic: asyncio.run(hang(scene.servers, topic, partition, f"xferq.drain.{scene.topic}.0", lost.id))
        for topic, partition in places.items()
    }
    worker = own.starts_worker()
    scene.cancel("a")
    worker.says("error=a transaction of xferq's own hangs", times=3)
    # The others are through, and nothing was written of this one.
    ledger = scene.until(lambda ledger: scene.restored(ledger) == 60 and f"waiting/{scene.topic}/0/a" in ledger.values)
    assert ledger.progress(scene.topic, "a").keys() == {1, 2, 3}
    assert checker.log_ends(scene.servers, topic_of(lost.queue))[0] == 1
    said = ledger.values[f"waiting/{scene.topic}/0/a"]["why"]
    assert "kafka-transactions.sh abort" in said
    assert re.search(r"^xferq_waiting 1\.0$", own.metrics(), re.MULTILINE)
    for topic, partition in places.items():
        assert f"{topic}/{partition} from offset {starts[topic]}" in said
        reader.types(abort, HANGING=topic, PARTITION=partition, OFFSET=starts[topic])
    status = scene.done().status("a") or {}
    assert status["restored"] == 80
    for records in checker.read(scene.servers, places).values():
        assert [record.id for record in records].count(lost.id) == 1
    assert scene.problems() == []
