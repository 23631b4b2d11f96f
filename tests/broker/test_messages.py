"""Messages of every kind through a cancel: back in their queues exactly as they were, or back at the tail."""

import json
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streams.broker import EmbeddedBroker
from streams.domain.topic import topic_of
from tests.broker import checker
from tests.broker.scene import wait_until
from tests.broker.world import XFER_SUFFIX, Message, World, XferQueue, in_order, restored_from, without_due
from tests.support.patience import WAIT_S, stretched_ms

CODECS = ["gzip", "snappy", "lz4", "zstd"]
LOG_FIELDS = [
    *("type", "id", "sender", "recipient", "queue", "site", "size", "response", "peer_address", "timestamp"),
    *("event_time", "created", "created_time", "num_attempts", "bounce_classification", "egress_pool"),
    *("egress_source", "source_address", "feedback_report", "meta", "headers", "delivery_protocol"),
    *("reception_protocol", "nodeid"),
]


def assert_outcome(
    queue: XferQueue,
    status: dict[str, Any],
    restored: Sequence[Message],
    returned: Mapping[str, Sequence[Message]] | None = None,
) -> None:
    """All that was restored is in its queue, all else at the tail as it was, and every number is exact."""
    returned = returned or {}
    back = sorted((message for messages in returned.values() for message in messages), key=queue.sent.index)
    assert status["state"] == "done"
    assert status["returned_reasons"] == {reason: len(messages) for reason, messages in returned.items()}
    counts = len(restored), len(back), len(restored) + len(back)
    assert (status["restored"], status["returned"], status["total"]) == counts
    assert_restored(queue, restored)
    assert queue.remaining() == in_order(back)
    assert sorted(record.key or b"" for record, _ in queue.log()) == sorted(message.key or b"" for message in restored)


def assert_restored(queue: XferQueue, messages: Iterable[Message]) -> None:
    """The domain's own queue holds these and nothing else; those of one partition in this order."""
    assert [without_due(message) for message in queue.restored()] == in_order(map(restored_from, messages))


# ---- records of every kind


def test_keys_values_and_headers_of_every_kind(queue: XferQueue) -> None:
    many = tuple((f"h{number % 10}", b"%d" % number) for number in range(200))
    plain = queue.message()
    envelope = plain.headers[1]
    messages = queue.put(
        queue.message(),
        queue.message(value=None),
        queue.message(value=b""),
        queue.message(key=None),
        queue.message(key=b""),
        queue.message(key=b"\xff\xfe\x00\x80not utf-8"),
        queue.message(value=bytes(range(256)) * 10),
        queue.message(value=b"x" * 1_000_000),
        queue.message(value=b"y" * 1_048_000),
        queue.message(headers=(envelope,)),
        queue.message(headers=(("a", b"1"), envelope, ("a", b"2"), ("a", b"1"), ("A", b"3"))),
        queue.message(headers=(("null", None), envelope, ("empty", b""), ("null", None))),
        queue.message(headers=(("Envelope", b"another name"), envelope, ("envelopes", b"and another"))),
        queue.message(headers=(*many, envelope, *many)),
        queue.message(headers=(("", b"no name"), envelope, ("\u00fc\u4e2d", "\u00fc".encode()))),
        queue.message(meta={"big": 2**63 - 1, "small": -(2**63), "half": 0.1, "deep": {"\u00fc": [None, True, {}]}}),
        queue.message(timestamp=1),
        queue.message(timestamp=int(time.time() * 1000) + 1_800_000),
    )
    assert_outcome(queue, queue.cancelled(), messages)


def test_due_is_the_moment_of_the_cancel(queue: XferQueue) -> None:
    queue.put(queue.message(info={"due": "2031-01-01T00:00:00Z"}), queue.message())
    before = datetime.now(UTC)
    queue.cancelled()
    dues = [datetime.fromisoformat(message.envelope["due"]) for message in queue.restored()]
    assert len(dues) == 2
    assert all(before <= due <= datetime.now(UTC) for due in dues)


def test_the_log_record_is_complete(queue: XferQueue) -> None:
    message, _, odd = queue.put(
        queue.message(tenant="mytenant", info={"num_attempts": 5}, meta={"reception_protocol": "ESMTP"}),
        queue.message(tenant="mytenant", key=None, value=None),
        queue.message(tenant="mytenant", key=b"a\xffb"),
    )
    command_id = queue.cancelled(reason="scaling\ndown")["id"]
    records = {record.key: (record, line) for record, line in queue.log()}
    assert records.keys() == {message.key, None, odd.key}
    record, line = records[message.key]
    assert record.headers == (
        ("type", b"AdminRebind"),
        ("command_id", command_id.encode()),
        ("kind", b"xfer.cancel"),
        ("source", queue.name.encode()),
        ("destination", f"mytenant@{queue.domain}".encode()),
    )
    assert list(line) == LOG_FIELDS
    moments = {name: line.pop(name) for name in ("timestamp", "event_time")}
    assert int(datetime.fromisoformat(moments["event_time"]).timestamp()) == moments["timestamp"]
    assert line == {
        "type": "AdminRebind",
        "id": (message.key or b"").decode(),
        "sender": message.envelope["sender"],
        "recipient": message.envelope["recipient"],
        "queue": f"mytenant@{queue.domain}",
        "site": "",
        "size": len(message.value or b""),
        "response": {
            "code": 250,
            "enhanced_code": None,
            "content": f"Rebound from {queue.name} to mytenant@{queue.domain}: scaling down",
            "command": None,
        },
        "peer_address": None,
        "created": int(datetime.fromisoformat("2026-11-20T10:00:00Z").timestamp()),
        "created_time": "2026-11-20T10:00:00Z",
        "num_attempts": 5,
        "bounce_classification": "Uncategorized",
        "egress_pool": None,
        "egress_source": None,
        "source_address": None,
        "feedback_report": None,
        "meta": {},
        "headers": {},
        "delivery_protocol": None,
        "reception_protocol": "ESMTP",
        "nodeid": str(queue.world.settings.node_id),
    }
    assert (records[None][1]["id"], records[None][1]["size"]) == ("", 0)
    assert records[odd.key][1]["id"] == "a\\xffb"


# ---- compressed batches


def batches_in(broker: EmbeddedBroker, topic: str) -> Iterator[tuple[int, int]]:
    """The record batches in the broker's files of a topic: size in bytes, compression code (KIP-98's header)."""
    for segment in broker.data_dir.glob(f"kafka/{topic}-*/*.log"):
        raw = segment.read_bytes()
        at = 0
        while at + 61 <= len(raw) and (length := struct.unpack_from(">i", raw, at + 8)[0]):
            (attributes,) = struct.unpack_from(">h", raw, at + 21)
            yield 12 + length, attributes & 7
            at += 12 + length


def codecs_in(broker: EmbeddedBroker, topic: str) -> set[int]:
    """The compression codes of a topic's batches."""
    return {codec for _, codec in batches_in(broker, topic)}


def test_batches_compressed_by_librdkafka(broker: EmbeddedBroker, queue: XferQueue) -> None:
    messages: list[Message] = []
    for codec in CODECS:
        messages += queue.put(
            *queue.messages(40, value=b"very compressible " * 100), compression_type=codec, linger_ms=50
        )
    assert codecs_in(broker, queue.topic) == {1, 2, 3, 4}
    assert_outcome(queue, queue.cancelled(), messages)


async def test_batches_compressed_by_aiokafka(broker: EmbeddedBroker, queue: XferQueue) -> None:
    messages: list[Message] = []
    for codec in CODECS:
        batch = queue.messages(40, value=b"very compressible " * 100)
        async with AIOKafkaProducer(
            bootstrap_servers=queue.servers, compression_type=codec, linger_ms=50, max_batch_size=100_000
        ) as producer:
            for message in batch:
                await producer.send(
                    queue.topic,
                    message.value,
                    message.key,
                    message.partition,
                    message.timestamp,
                    list(message.headers),
                )
        messages += batch
    assert codecs_in(broker, queue.topic) == {1, 2, 3, 4}
    assert_outcome(queue, queue.cancelled(), messages)


# ---- transactions in the range


@pytest.mark.parametrize("place", ["start", "middle", "end", "everywhere"])
def test_aborted_transactions_in_the_range(queue: XferQueue, place: str) -> None:
    messages: list[Message] = []
    for part in ("start", "middle", "end"):
        if place in (part, "everywhere"):
            queue.aborted(*queue.messages(8))
        if part != "end":
            messages += queue.put(*queue.messages(8))
    status = queue.cancelled()
    assert_outcome(queue, status, messages)
    # Each aborted transaction left two records and a marker in each of the four partitions.
    assert status["offsets_total"] == 16 + (36 if place == "everywhere" else 12)
    assert status["offsets_done"] == status["offsets_total"]


def test_markers_of_committed_transactions_are_no_records(queue: XferQueue) -> None:
    messages = [*queue.committed(*queue.messages(8)), *queue.committed(*queue.messages(8))]
    status = queue.cancelled()
    assert_outcome(queue, status, messages)
    assert status["offsets_total"] == 24


def test_a_queue_with_nothing_but_aborted_transactions(queue: XferQueue) -> None:
    queue.aborted(*queue.messages(8))
    queue.aborted(*queue.messages(4))
    status = queue.cancelled()
    assert_outcome(queue, status, [])
    assert status["offsets_total"] == 20
    assert queue.world.scene.open_transactions() == []


def test_what_is_in_an_open_transaction_is_not_considered_and_a_later_cancel_takes_it(queue: XferQueue) -> None:
    before = queue.put(*queue.messages(8))
    late = queue.messages(4)
    with queue.transaction(*late) as transaction:
        # Behind a record of an open transaction nothing is stable yet.
        behind = queue.put(*queue.messages(4))
        status = queue.cancelled()
        assert (status["total"], status["restored"], status["returned"]) == (8, 8, 0)
        assert_restored(queue, before)
        transaction.commit_transaction(60)
    status = queue.cancelled()
    assert (status["total"], status["restored"], status["returned"]) == (8, 8, 0)
    assert_restored(queue, [*before, *late, *behind])
    assert queue.remaining() == []
    assert len(queue.log()) == 16


def test_what_an_open_transaction_aborts_later_never_comes(queue: XferQueue) -> None:
    before = queue.put(*queue.messages(4))
    with queue.transaction(*queue.messages(4)) as transaction:
        assert queue.cancelled()["total"] == 4
        behind = queue.put(*queue.messages(4))
        transaction.abort_transaction(60)
    assert queue.cancelled()["total"] == 4
    assert_restored(queue, [*before, *behind])
    assert len(queue.log()) == 8


# ---- few messages and many


def test_an_empty_queue(queue: XferQueue) -> None:
    status = queue.cancelled()
    assert (status["state"], status["total"], status["restored"], status["returned"]) == ("done", 0, 0, 0)
    assert status["finished_at"] is not None
    assert queue.heads() == {}


@pytest.mark.parametrize("partition", [0, 3])
def test_one_message(queue: XferQueue, partition: int) -> None:
    messages = queue.put(queue.message(partition=partition))
    assert_outcome(queue, queue.cancelled(), messages)


def test_what_was_dispatched_before_is_not_restored(queue: XferQueue) -> None:
    messages = queue.put(*queue.messages(40))
    dispatched = {0: 10, 1: 4, 2: 0}
    assert queue.commit(dispatched)
    left = [message for number, message in enumerate(messages) if number // 4 >= dispatched.get(message.partition, 0)]
    assert len(left) == 26
    assert_outcome(queue, queue.cancelled(), left)


def test_each_cancel_takes_what_came_since_the_last_one(queue: XferQueue) -> None:
    messages: list[Message] = []
    for _ in range(3):
        new = queue.put(*queue.messages(12))
        messages += new
        assert queue.cancelled()["restored"] == 12
    assert queue.cancelled()["total"] == 0
    assert_restored(queue, messages)


@pytest.mark.parametrize(("source", "destination"), [(6, 4), (6, 1), (2, 5), (5, None)])
def test_the_order_of_each_source_partition_is_kept(world: World, source: int, destination: int | None) -> None:
    queue = world.queue(partitions=source)
    count = destination or world.settings.queue_partitions
    names = [None, "t1", "t2"]
    if destination is not None:
        for tenant in names:
            world.create(topic_of(queue.domain if tenant is None else f"{tenant}@{queue.domain}"), destination)
    messages = {tenant: queue.messages(900, partitions=source, tenant=tenant, value=b"x" * 3_000) for tenant in names}
    mixed = [message for group in zip(*messages.values(), strict=True) for message in group]
    queue.put(*mixed)
    status = queue.cancelled()
    assert (status["total"], status["restored"]) == (2_700, 2_700)
    for tenant, sent in messages.items():
        found = queue.restored(tenant)
        source_of = {message.key: message.partition for message in sent}
        assert all(message.partition == source_of[message.key] % count for message in found)
        for partition in range(source):
            ours = [message.key for message in found if source_of[message.key] == partition]
            assert ours == [message.key for message in sent if message.partition == partition]
    log = queue.log()
    assert len(log) == len({message.key for message, _ in log}) == 2_700


@pytest.mark.alone  # so many new topics slow down whatever runs beside it
def test_two_thousand_new_queues_in_one_drain(broker: EmbeddedBroker) -> None:
    # The time-outs that people have.
    settings = {
        "queue_partitions": 1,
        "transaction_timeout_ms": stretched_ms(30_000),
        "request_timeout_ms": stretched_ms(15_000),
    }
    with World(broker.bootstrap_servers, **settings) as world:
        world.worker()
        queue = world.queue(partitions=1)
        names = [f"c{number}:t@{queue.domain}" for number in range(2_000)]
        queue.put(*(queue.message(info={"queue": name}) for name in [*names, *names]))
        status = queue.cancelled(timeout_s=3 * WAIT_S)
        assert (status["total"], status["restored"], status["returned"]) == (4_000, 4_000, 0)
        assert len(queue.log()) == 4_000
        two_each = dict.fromkeys(map(topic_of, names), 2)
        # Two thousand markers take a moment, see `World.records`.
        wait_until(
            lambda: {topic: len(there) for topic, there in checker.read(world.servers, two_each).items()} == two_each
        )


# ---- messages that can't be restored


def not_restorable(queue: XferQueue) -> dict[str, list[Message]]:
    """Messages that can't be restored for what is in (or not in) their envelopes, by the reason's name."""
    good = queue.message().envelope
    header = ("envelope", json.dumps(good).encode())

    def enveloped(envelope: object) -> Message:
        return queue.message().with_envelope(envelope)

    def without(name: str) -> Message:
        return enveloped({key: value for key, value in good.items() if key != name})

    def informed(info: object) -> Message:
        return enveloped({**good, "meta": {**good["meta"], "xfer_queue_info": info}})

    def nested(levels: int) -> Message:
        deep = b'{"a":' * levels + b"1" + b"}" * levels
        return enveloped(header[1].replace(b'"meta": {', b'"meta": {"deep": %b, ' % deep))

    days = {"dow": "Mon", "tz": "America/Phoenix", "start": "09:00:00", "end": "17:00:00"}
    return {
        "no_envelope": [
            queue.message(headers=()),
            queue.message(headers=(("x", b"1"), ("Envelope", header[1]))),
            queue.message(headers=(("x", b"1"), ("envelope", None), ("y", None))),
            queue.message(headers=(), key=None, value=None),
        ],
        "invalid_envelope": [
            enveloped(b""),
            enveloped(b"{"),
            enveloped(b"\xff"),
            enveloped(b"[]"),
            enveloped(b"null"),
            enveloped(header[1].replace(b'"n": ', b'"n": NaN, "m": ')),
            nested(300),
            nested(3_000),
            *(without(name) for name in ("sender", "recipient", "meta", "created", "num_attempts")),
            enveloped({**good, "recipient": []}),
            enveloped({**good, "num_attempts": 65_536}),
            enveloped({**good, "num_attempts": -1}),
            enveloped({**good, "created": "yesterday"}),
            enveloped({**good, "due": "tomorrow"}),
            enveloped({**good, "schedule": "x"}),
            queue.message(headers=(header, ("x", b"1"), header)),
        ],
        "no_saved_info": [
            enveloped({**good, "meta": {"queue": queue.name}}),
            enveloped({**good, "meta": {}}),
            informed(None),
        ],
        "invalid_saved_info": [
            informed("x"),
            informed([]),
            informed({"num_attempts": 65_536}),
            informed({"num_attempts": "1"}),
            informed({"num_attempts": True}),
            informed({"tenant": 1}),
            informed({"queue": ["x"]}),
            informed({"due": "soon"}),
            informed({"schedule": {"dow": "Mon"}}),
            informed({"schedule": {"unknown": 1}}),
            informed({"schedule": {**days, "tz": "Nowhere/Land"}}),
            informed({"schedule": {**days, "start": "18:00:00"}}),
        ],
        "unresolvable_queue": [
            enveloped({**good, "recipient": "nobody"}),
            informed({"queue": ""}),
            informed({"queue": "x" * 1_025}),
            informed({"queue": queue.name}),
            informed({"queue": f"http://other.invalid/{XFER_SUFFIX}"}),
        ],
    }


def test_messages_that_cannot_be_restored_go_back_to_the_tail_byte_for_byte(queue: XferQueue) -> None:
    returned = not_restorable(queue)
    refused = [message for messages in returned.values() for message in messages]
    good = queue.messages(len(refused))
    queue.put(*(message for pair in zip(refused, good, strict=True) for message in pair))
    assert_outcome(queue, queue.cancelled(), good, returned)

    again = queue.cancelled()
    counts = again["restored"], again["returned"], again["total"]
    assert counts == (0, len(refused), len(refused))
    assert again["returned_reasons"] == {reason: len(messages) for reason, messages in returned.items()}
    assert queue.remaining() == in_order(refused)
    assert_restored(queue, good)


def test_a_returned_message_that_was_put_right_meanwhile_is_restored_by_the_next_cancel(queue: XferQueue) -> None:
    topic = f"queue.late.{queue.domain}"
    obstacle = topic.replace("queue.late.", "queue.late_")
    queue.world.create(obstacle, 1)
    (message,) = queue.put(queue.message(info={"queue": f"late.{queue.domain}"}))
    assert queue.cancelled()["returned_reasons"] == {"destination_unavailable": 1}
    queue.world.scene.delete(obstacle)
    assert queue.cancelled()["restored"] == 1
    assert [without_due(found) for found in queue.world.read(topic)] == [restored_from(message)]
    assert queue.remaining() == []


def test_a_queue_whose_topic_cannot_be_created(queue: XferQueue) -> None:
    # Kafka refuses topics whose names differ only in "." and "_".
    queue.world.create(f"queue.a_b.{queue.domain}", 1)
    good = queue.messages(8)
    refused = queue.messages(8, info={"queue": f"a.b.{queue.domain}"})
    queue.put(*(message for pair in zip(good, refused, strict=True) for message in pair))
    assert_outcome(queue, queue.cancelled(), good, {"destination_unavailable": refused})


def test_no_topic_can_be_created_at_all(broker: EmbeddedBroker) -> None:
    with World(broker.bootstrap_servers, replication_factor=5) as world:
        world.worker()
        queue = world.queue()
        refused = queue.put(*queue.messages(8))
        status = queue.cancelled()
        assert (status["total"], status["returned_reasons"]) == (8, {"destination_unavailable": 8})
        assert queue.remaining() == in_order(refused)
        world.create(topic_of(queue.domain), 4)
        assert_outcome(queue, queue.cancelled(), refused)


def test_messages_over_their_destinations_limit_after_restoring(queue: XferQueue) -> None:
    limit = 2_000
    queue.world.create(topic_of(queue.domain), 4, max_message_bytes=str(limit))
    small = queue.messages(40)
    large = queue.messages(8, value=b"x" * 5_000)
    queue.put(*small[:20], *large, *small[20:])
    elsewhere = queue.put(*queue.messages(4, tenant="other", value=b"x" * 5_000))
    status = queue.cancelled()
    assert (status["restored"], status["returned_reasons"], status["total"]) == (44, {"too_large": 8}, 52)
    assert_restored(queue, small)
    assert [without_due(found) for found in queue.restored("other")] == in_order(map(restored_from, elsewhere))
    assert queue.remaining() == in_order(large)


def test_the_limit_is_exact(broker: EmbeddedBroker, queue: XferQueue) -> None:
    limit = 2_000
    topic = topic_of(queue.domain)
    queue.world.create(topic, 4, max_message_bytes=str(limit))
    sizes = range(1_500, 2_000, 3)
    messages = queue.put(*(queue.message(partition=size % 4, value=b"x" * size) for size in sizes))
    status = queue.cancelled()
    count = status["restored"]
    assert 0 < count < len(messages)
    assert_outcome(queue, status, messages[:count], {"too_large": messages[count:]})
    assert limit - 3 < max(size for size, _ in batches_in(broker, topic)) <= limit


def test_messages_that_only_their_own_queue_takes(world: World) -> None:
    queue = world.queue(max_message_bytes=str(4 << 20))
    world.create(topic_of(f"roomy@{queue.domain}"), 4, max_message_bytes=str(4 << 20))
    large = queue.message(value=b"x" * 1_500_000)
    many = queue.message(tenant="roomy")
    recipients = [f"u{number}@{queue.domain}" for number in range(40_000)]
    # Its queue would take it, but not the delivery log: it would leave without a record.
    unloggable = many.with_envelope({**many.envelope, "recipient": recipients})
    roomy = queue.message(tenant="roomy", value=b"x" * 1_500_000)
    good = queue.messages(4)
    queue.put(good[0], large, good[1], unloggable, good[2], roomy, good[3])
    status = queue.cancelled()
    assert (status["restored"], status["returned_reasons"], status["total"]) == (5, {"too_large": 2}, 7)
    assert_restored(queue, good)
    assert [without_due(found) for found in queue.restored("roomy")] == [restored_from(roomy)]
    assert queue.remaining() == [large, unloggable]


def test_a_large_message_that_was_compressed_is_given_back(queue: XferQueue) -> None:
    zeros = bytes(5_000_000)
    bare = queue.message(value=zeros, headers=(("x", b"1"),))
    restorable = queue.message(value=zeros)
    good = queue.messages(4)
    queue.put(good[0], bare, good[1], restorable, *good[2:], compression_type="gzip", message_max_bytes=8 << 20)
    assert_outcome(queue, queue.cancelled(), good, {"no_envelope": [bare], "too_large": [restorable]})
    again = queue.cancelled()
    assert again["returned_reasons"] == {"no_envelope": 1, "too_large": 1}
    assert queue.remaining() == [bare, restorable]
