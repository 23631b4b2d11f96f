"""Decompression bombs: in record batches, where a megabyte may unpack to thirty gigabytes, and in HTTP bodies."""

import asyncio
import gzip
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from random import Random
from typing import Any

import aiokafka.codec
import confluent_kafka
import cramjam
import httpx
import pytest
from confluent_kafka import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.broker import EmbeddedBroker
from streams.kafka.wire import codecs
from streams.kafka.wire.install import install
from streams.kafka.wire.records import MAX_BATCH_RECORDS, LenientRecords, is_unreadable
from tests.api.processes import ApiProcess
from tests.api.running import CANCEL, JSON, MAX_BODY_BYTES, problem_of
from tests.broker import checker
from tests.broker.scene import WAIT_S
from tests.broker.test_startup import configure
from tests.broker.world import World
from tests.outside import bombs
from tests.outside.bombs import MIB
from tests.support.examples import examples
from tests.support.patience import deadline

UNPACK = {
    "gzip": (codecs.unpack_gzip, aiokafka.codec.gzip_encode),
    "snappy": (codecs.unpack_snappy, aiokafka.codec.snappy_encode),
    "lz4": (codecs.unpack_lz4, aiokafka.codec.lz4_encode),
    "zstd": (codecs.unpack_zstd, aiokafka.codec.zstd_encode),
}
# Bytes of every compressibility: a few distinct pieces, repeated.
contents = st.lists(st.tuples(st.binary(max_size=50), st.integers(0, 5_000)), max_size=5).map(
    lambda pieces: b"".join([b"x", *(piece * count for piece, count in pieces)])
)
outside = settings.get_profile("outside")

install()


# ---- codecs


@pytest.mark.parametrize("codec", UNPACK)
@given(contents)
@settings(outside, max_examples=examples(50))
def test_what_is_no_bomb_is_unpacked_as_ever(codec: str, content: bytes) -> None:
    unpack, pack = UNPACK[codec]
    assert unpack(pack(content)) == content


@pytest.mark.parametrize("codec", UNPACK)
def test_the_limit_is_exact(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "MAX_UNPACKED_BYTES", 300_000)
    unpack, pack = UNPACK[codec]
    assert unpack(pack(bytes(300_000))) == bytes(300_000)
    with pytest.raises(codecs.TooLarge):
        unpack(pack(bytes(300_001)))


@pytest.mark.parametrize("codec", UNPACK)
def test_a_large_batch_that_is_no_bomb_may_be_larger(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "MAX_UNPACKED_BYTES", 10_000)
    unpack, pack = UNPACK[codec]
    content = Random(4).randbytes(20_000) * 2
    assert codecs.MAX_UNPACKED_BYTES < len(content) <= codecs.MAX_RATIO * len(pack(content))
    assert unpack(pack(content)) == content


@pytest.mark.parametrize("codec", ["gzip", "zstd", "lz4"])
def test_several_frames_are_one_content(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unpack, pack = UNPACK[codec]
    assert unpack(pack(b"ab") + pack(b"") + pack(b"c" * 100)) == b"ab" + b"c" * 100
    monkeypatch.setattr(codecs, "MAX_UNPACKED_BYTES", 150_000)
    with pytest.raises(codecs.TooLarge):
        unpack(pack(bytes(100_000)) + pack(bytes(100_000)))


def test_zstd_with_a_frame_to_be_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    skipped = struct.pack("<II", 0x184D2A53, 5) + b"xxxxx"
    monkeypatch.setattr(codecs, "MAX_UNPACKED_BYTES", 100_000)
    with pytest.raises(codecs.TooLarge):
        codecs.unpack_zstd(skipped + bytes(cramjam.zstd.compress(bytes(100_001))))


@given(st.lists(contents, min_size=1, max_size=3), st.integers(-5, 19))
@settings(outside, max_examples=examples(100))
def test_the_bound_on_zstd_is_never_too_low(parts: list[bytes], level: int) -> None:
    packed = b"".join(bytes(cramjam.zstd.compress(part, level=level)) for part in parts)
    assert codecs._zstd_bound(packed) >= sum(map(len, parts))


@pytest.mark.parametrize("codec", UNPACK)
@given(contents, st.data())
@settings(outside, max_examples=examples(100))
def test_what_is_broken_is_an_error_or_bounded(codec: str, content: bytes, data: st.DataObject) -> None:
    unpack, pack = UNPACK[codec]
    raw = bytearray(pack(content))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        unpacked = unpack(bytes(raw))
    except (codecs.TooLarge, cramjam.DecompressionError, zlib.error, EOFError, struct.error):
        return
    assert len(unpacked) <= codecs.limit_of(bytes(raw))


def test_snappy_that_lies_about_its_size() -> None:
    lie = b"\xff\xff\xff\xff\x0f" + b"\x00a"  # 4 GiB, it says
    with pytest.raises(codecs.TooLarge):
        codecs.unpack_snappy(lie)
    block = bytes(aiokafka.codec.snappy_encode(b"x"))[:16] + struct.pack(">i", len(lie)) + lie
    with pytest.raises(codecs.TooLarge):
        codecs.unpack_snappy(block)


# ---- batches


@pytest.mark.parametrize("codec", ["gzip", "zstd", "lz4"])
def test_a_batch_that_is_too_large_is_one_record_without_a_value(codec: str) -> None:
    good, bad = bombs.batch(codec, 5), bombs.batch(codec, 33)
    assert len(bad) < MIB
    (record,) = list(LenientRecords(good).next_batch() or ())
    assert (len(record.value), is_unreadable(record)) == (5 * MIB, False)
    (record,) = list(LenientRecords(bad).next_batch() or ())
    assert (record.value, record.offset, is_unreadable(record)) == (None, 0, True)


def test_a_batch_of_very_many_records_is_too_large() -> None:
    most = list(LenientRecords(bombs.batch_of_many("zstd", MAX_BATCH_RECORDS)).next_batch() or ())
    assert len(most) == MAX_BATCH_RECORDS
    (record,) = list(LenientRecords(bombs.batch_of_many("zstd", MAX_BATCH_RECORDS + 1)).next_batch() or ())
    assert (record.offset, is_unreadable(record)) == (MAX_BATCH_RECORDS, True)


@pytest.mark.parametrize("raw", [bombs.batch("zstd", 5), bombs.batch_of_many("zstd", 20_000)], ids=["bytes", "records"])
def test_a_fetch_of_many_small_bombs_is_taken_in_pieces(raw: bytes) -> None:
    records = LenientRecords(raw * 1_000)
    assert len(raw) * 1_000 < 20 * MIB
    batches = 0
    while records.has_next():
        batches += len(list(records.next_batch() or ())) > 0
    assert 4 < batches < 10


@pytest.mark.parametrize("raw", [bombs.batch("zstd", 40), bombs.batch_of_many("zstd", MAX_BATCH_RECORDS + 1)])
def test_a_fetch_ends_with_the_first_batch_that_is_too_large(raw: bytes) -> None:
    """To find that out costs as much as a whole fetch may, and the reader takes no more than one at a time."""
    records = LenientRecords(raw * 3)
    (record,) = records.next_batch() or ()
    assert is_unreadable(record)
    assert not records.has_next()


_READS = """
import resource, sys
from streams.kafka.wire.install import install
from streams.kafka.wire.records import LenientRecords, is_unreadable
install()
raw = sys.stdin.buffer.read()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20),) * 2)
print([is_unreadable(record) for record in LenientRecords(raw).next_batch()])
"""


@pytest.mark.parametrize(("codec", "mib"), [("zstd", 1900), ("gzip", 350), ("lz4", 200)])
def test_the_memory_that_a_bomb_takes(codec: str, mib: int) -> None:
    """In a process that may have 300 MiB, where aiokafka alone has none left."""
    raw = bombs.batch(codec, mib)
    assert len(raw) < MIB
    result = subprocess.run([sys.executable, "-c", _READS], input=raw, capture_output=True, timeout=WAIT_S, check=False)
    assert (result.returncode, result.stdout) == (0, b"[True]\n"), result.stderr[-2000:]


# ---- the real broker


def test_a_bomb_in_a_queue_goes_back_to_its_tail_unopened_and_harms_nobody(broker: EmbeddedBroker) -> None:
    with World(broker.bootstrap_servers) as world:
        worker = world.worker()
        queue = world.queue()
        before, behind = queue.messages(8), queue.messages(8)
        queue.put(*before)
        many = MAX_BATCH_RECORDS + 1
        for raw in (bombs.batch("zstd", 1900), bombs.batch_of_many("gzip", many)):
            asyncio.run(bombs.write(world.servers, queue.topic, 0, raw))
        queue.put(*behind)
        memory = memory_of(worker.pid)
        for restored in (16, 0):  # the second time it is all that is there
            status = queue.cancelled()
            assert (status["restored"], status["returned_reasons"]) == (restored, {"batch_too_large": 1 + many})
            assert status["total"] == restored + 1 + many
        assert memory_of(worker.pid) < memory + 300 * MIB
        assert sorted(message.key or b"" for message in queue.restored()) == sorted(
            message.key or b"" for message in [*before, *behind]
        )
        # All of the second one is there, as it was: its last record has the last offset but for a marker's.
        end = checker.log_ends(world.servers, queue.topic)[0]
        assert end - queue.heads()[0] - (1 + many) in (1, 2)  # in one transaction or two, each with its marker
        found = last_of(world.servers, queue.topic, end - 1 - 10)
        assert [(one.key(), one.value(), one.timestamp()[1]) for one in found] == [(None, None, 1_790_000_000_000)] * 10


def test_a_bomb_in_a_queue_of_the_brokers_own_timestamps(broker: EmbeddedBroker) -> None:
    """Kafka takes none that says that its timestamps are the broker's: that is for the topic to say."""
    with World(broker.bootstrap_servers) as world:
        world.worker()
        queue = world.queue(partitions=1, message_timestamp_type="LogAppendTime")
        asyncio.run(bombs.write(world.servers, queue.topic, 0, bombs.batch("zstd", 40)))
        assert queue.cancelled()["returned_reasons"] == {"batch_too_large": 1}


def test_a_bomb_that_its_topic_does_not_take_back_is_named(broker: EmbeddedBroker) -> None:
    with World(broker.bootstrap_servers) as world:
        worker = world.worker()
        queue = world.queue(partitions=1)
        asyncio.run(bombs.write(world.servers, queue.topic, 0, bombs.batch("zstd", 400)))
        configure(world.scene, queue.topic, "max.message.bytes", "1000")
        queue.cancel()
        worker.says("the batch that ends at offset 0 would unpack to more than a worker may hold, and is larger than")


def last_of(servers: str, topic: str, offset: int) -> list[Any]:
    """Committed records of partition 0 from an offset on, by a client that opens anything."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": servers, "group.id": "unused", "enable.partition.eof": True, "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(topic, 0, offset)])
    found: list[Any] = []
    end = deadline()
    while not (found and found[-1].error()):
        found += consumer.consume(100, 0.2)
        end.check(lambda: "they do not come")
    consumer.close()
    return found[:-1]


def test_a_batch_that_is_too_large_and_partly_dispatched_stands_in_the_way_and_that_is_said(
    broker: EmbeddedBroker,
) -> None:
    with World(broker.bootstrap_servers) as world:
        worker = world.worker()
        queue, other = world.queue(), world.queue()
        raw = bombs.batch_of_many("zstd", MAX_BATCH_RECORDS + 1)
        asyncio.run(bombs.write(world.servers, queue.topic, 0, raw))
        assert queue.commit({0: 5})
        queue.put(*queue.messages(8))
        id = queue.cancel()
        other.put(*other.messages(40))
        assert other.cancelled()["restored"] == 40
        worker.says("would unpack to more than a worker may hold", times=3)
        status = world.scene.ledger(0.05).status(id) or {}
        assert status["state"] not in ("done", "refused")
        assert other.cancelled()["total"] == 0  # it still works
        # The way out: the operator deletes it.
        world.scene.admin.delete_records([TopicPartition(queue.topic, 0, MAX_BATCH_RECORDS + 1)])
        assert world.done(id)["restored"] == 8
        assert len(queue.restored()) == 8


def test_a_bomb_among_the_commands_is_refused(broker: EmbeddedBroker) -> None:
    with World(broker.bootstrap_servers) as world:
        worker = world.worker()
        queue = world.queue()
        queue.put(*queue.messages(4))
        memory = memory_of(worker.pid)
        for raw in (bombs.batch("zstd", 1900), bombs.batch_of_many("zstd", MAX_BATCH_RECORDS + 1)):
            asyncio.run(bombs.write(world.servers, world.settings.commands_topic, 1, raw))
            asyncio.run(bombs.write(world.servers, world.settings.drains_topic, 1, raw))
        command = f'{{"type": "xfer.cancel", "queue_name": "{queue.name}", "reason": "r"}}'.encode()
        assert world.done(world.publish(command, b"k", 1))["restored"] == 4
        assert memory_of(worker.pid) < memory + 300 * MIB
        refused = [
            value
            for key, value in world.scene.ledger(0.05).values.items()
            if re.fullmatch(rf"outcome/{re.escape(world.settings.commands_topic)}-1-\d+-\d+", key)
            and value["state"] == "refused"
        ]
        assert len(refused) == 2


def memory_of(pid: int) -> int:
    """The most memory that a process has had so far, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) << 10


# ---- HTTP


def test_a_bomb_in_a_body(server: ApiProcess) -> None:
    """Hundreds of megabytes in one, also as many small members, and bombs within bombs."""
    member = gzip.compress(bytes(MAX_BODY_BYTES // 8))
    memory = memory_of(server.pid)
    with httpx.Client(base_url=server.url, trust_env=False, timeout=WAIT_S) as client:
        for body in (bombs.packed("gzip", b"", 300), member * 400, gzip.compress(bombs.packed("gzip", b"", 64)) * 100):
            assert len(body) <= MAX_BODY_BYTES
            for _ in range(3):
                answer = client.post(CANCEL, content=body, headers={**JSON, "Content-Encoding": "gzip"})
                assert problem_of(answer, answer.status_code, KIND[answer.status_code])
        for encoding in ("deflate", "br", "zstd", "gzip, gzip", "gzip,deflate", "x-compress"):
            answer = client.post(CANCEL, content=member, headers={**JSON, "Content-Encoding": encoding})
            problem_of(answer, 415, "unsupported-encoding")
    assert memory_of(server.pid) < memory + 50 * MIB


KIND = {413: "too-large", 400: "malformed-body"}
