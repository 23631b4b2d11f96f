"""What the engine relies on, on the model and on Kafka itself: so that the model does not lie."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from aiokafka.partitioner import murmur2

from streams.broker import EmbeddedBroker
from streams.errors import Conflict, Fenced, OutOfRange, Rejected, Unavailable, XferqError
from streams.kafka.cluster import Cluster
from streams.ports import GroupOffsets, Producer
from streams.records import Reader, Write
from streams.settings.settings import Settings
from tests.contract_ports.rigs import BrokerRig, FakeRig, Rig, eventually
from tests.support.names import own_name


@pytest.fixture(params=["fake", pytest.param("kafka", marks=pytest.mark.broker)])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    found: Rig = FakeRig()
    if request.param == "kafka":
        found = BrokerRig(request.getfixturevalue("broker").bootstrap_servers)
    yield found
    await found.close()


def name() -> str:
    return own_name("ports.")


async def read_all(reader: Reader, end: int) -> list[bytes | None]:
    """The keys up to the end, and the reader closed."""
    keys: list[bytes | None] = []
    while reader.position < end:
        keys += [record.key for record in await reader.read()]
    await reader.close()
    return keys


async def keys_in(rig: Rig, topic: str, partition: int = 0) -> list[bytes | None]:
    """The keys of all committed records, once all is decided."""

    async def is_decided() -> bool:
        stable = await rig.kafka.stable_ends(topic, [partition])
        return stable == await rig.kafka.high_watermarks(topic, [partition])

    await eventually(is_decided, True)
    ends = await rig.kafka.high_watermarks(topic, [partition])
    if not ends[partition]:
        return []
    return await read_all(await rig.kafka.reader(topic, partition, 0, ends[partition]), ends[partition])


async def committed(rig: Rig, group: str, topic: str) -> dict[int, int]:
    """The group's offsets, once nothing is pending, and its coordinator is there."""
    for _ in range(500):
        with suppress(Unavailable):
            return await rig.kafka.committed(group, topic, [0, 1])
    raise AssertionError("it stays pending")


def write(producer: Producer, topic: str, keys: list[bytes], *, partition: int = 0, value: bytes = b"v") -> Write:
    batch = producer.batch()
    for key in keys:
        assert batch.append(timestamp=7, key=key, value=value, headers=[("h", b"1"), ("h", b"2")]) is not None
    return Write(topic, partition, batch)


# ---- ends and reading


async def test_an_open_transaction_holds_the_stable_end(rig: Rig) -> None:
    topic = await rig.topic()
    await rig.write(topic, [b"a", b"b"])
    transaction = await rig.open_transaction(topic, [b"c", b"d"])
    await rig.write(topic, [b"e"])
    assert await rig.kafka.high_watermarks(topic, [0]) == {0: 5}
    assert await rig.kafka.stable_ends(topic, [0]) == {0: 2}
    await transaction.commit()
    await eventually(lambda: rig.kafka.stable_ends(topic, [0]), {0: 6})  # the marker takes an offset
    assert await keys_in(rig, topic) == [b"a", b"b", b"c", b"d", b"e"]


async def test_aborted_records_are_passed_over(rig: Rig) -> None:
    topic = await rig.topic()
    await rig.write(topic, [b"a"])
    aborted = await rig.open_transaction(topic, [b"b", b"c"])
    await aborted.abort()
    await rig.write(topic, [b"d"])
    assert await keys_in(rig, topic) == [b"a", b"d"]


async def test_a_reader_gets_to_the_end_over_markers_only(rig: Rig) -> None:
    topic = await rig.topic()
    await rig.write(topic, [b"a"])
    for _ in range(3):
        await (await rig.open_transaction(topic, [b"x"])).abort()
    await eventually(lambda: rig.kafka.stable_ends(topic, [0]), {0: 7})
    assert await read_all(await rig.kafka.reader(topic, 0, 0, 7), 7) == [b"a"]
    assert await read_all(await rig.kafka.reader(topic, 0, 1, 7), 7) == []
    assert await read_all(await rig.kafka.reader(topic, 0, 6, 7), 7) == []


async def test_a_reader_leaves_out_what_lies_beyond_its_end(rig: Rig) -> None:
    topic = await rig.topic()
    await rig.write(topic, [b"%d" % number for number in range(10)])
    assert await read_all(await rig.kafka.reader(topic, 0, 3, 6), 6) == [b"3", b"4", b"5"]


async def test_a_reader_says_that_its_records_are_gone(rig: Rig) -> None:
    topic = await rig.topic()
    await rig.write(topic, [b"a", b"b", b"c"])
    await rig.kafka.delete_before(topic, {0: 2})
    assert await rig.kafka.log_starts(topic, [0]) == {0: 2}
    for start, end in ((0, 3), (9, 12)):
        reader = await rig.kafka.reader(topic, 0, start, end)
        with pytest.raises(OutOfRange):
            await read_all(reader, end)
        await reader.close()
    assert await read_all(await rig.kafka.reader(topic, 0, 2, 3), 3) == [b"c"]


async def test_nothing_beyond_the_end_can_be_freed(rig: Rig) -> None:
    topic = await rig.topic()
    await rig.write(topic, [b"a"])
    with pytest.raises(XferqError):
        await rig.kafka.delete_before(topic, {0: 5})
    assert await rig.kafka.log_starts(topic, [0]) == {0: 0}


async def test_a_tail_stops_at_what_is_open_and_goes_on_then(rig: Rig) -> None:
    topic = await rig.topic(partitions=2)
    await rig.write(topic, [b"a"])
    await rig.write(topic, [b"z"], partition=1)
    transaction = await rig.open_transaction(topic, [b"b"])
    await rig.write(topic, [b"c"])
    tail = await rig.kafka.tail(topic, {0: 0, 1: 0})
    found: list[bytes | None] = []

    async def follow() -> dict[int, int]:
        found.extend(record.key for record in await tail.read(100))
        return await tail.positions([0, 1])

    await eventually(follow, {0: 1, 1: 1})
    assert sorted(found, key=str) == [b"a", b"z"]
    await transaction.commit()
    await eventually(follow, {0: 4, 1: 1})
    assert [key for key in found if key != b"z"] == [b"a", b"b", b"c"]
    await tail.close()


# ---- transactions


async def test_who_is_cancelled_in_the_middle_of_a_transaction_waits_for_its_end(rig: Rig) -> None:
    topic = await rig.topic()
    producer = await rig.kafka.producer(name())
    written = asyncio.Event()

    async def look() -> None:
        written.set()
        await asyncio.sleep(0.2)

    transacting = asyncio.create_task(producer.transact([write(producer, topic, [b"a"])], before_commit=look))
    await written.wait()
    for _ in range(2):
        transacting.cancel()
        await asyncio.sleep(0.05)
    with pytest.raises(asyncio.CancelledError):
        await transacting
    assert await keys_in(rig, topic) == [b"a"]
    await producer.close()


async def test_a_transaction_is_there_as_a_whole(rig: Rig) -> None:
    topic, group = await rig.topic(partitions=2), name()
    producer = await rig.kafka.producer(name())
    writes = [
        write(producer, topic, [b"a", b"b"]),
        write(producer, topic, [b"x"], partition=1),
        write(producer, topic, [b"c"]),
        write(producer, topic, [b"d"]),
    ]
    await producer.transact(writes, GroupOffsets(group, topic, {0: 11, 1: 12}))
    assert await committed(rig, group, topic) == {0: 11, 1: 12}
    assert await keys_in(rig, topic) == [b"a", b"b", b"c", b"d"]
    assert await keys_in(rig, topic, 1) == [b"x"]
    reader = await rig.kafka.reader(topic, 0, 0, 1)
    (record,) = await reader.read()
    assert (record.partition, record.offset, record.timestamp, record.value) == (0, 0, 7, b"v")
    assert list(record.headers) == [("h", b"1"), ("h", b"2")]
    await reader.close()
    await producer.transact([write(producer, topic, [b"e"])])  # the same producer goes on
    assert await keys_in(rig, topic) == [b"a", b"b", b"c", b"d", b"e"]
    await producer.close()


async def test_what_was_sent_in_parts_is_one_transaction(rig: Rig) -> None:
    topic, other = await rig.topic(), await rig.topic(2)
    producer = await rig.kafka.producer(name())
    for _ in range(2):  # the same producer goes on
        ends = {topic: await rig.kafka.stable_ends(topic, [0]), other: await rig.kafka.stable_ends(other, [1])}
        await producer.send([write(producer, topic, [b"a"]), write(producer, other, [b"b"], partition=1)])
        await producer.send([write(producer, topic, [b"c"])])
        assert await rig.kafka.stable_ends(topic, [0]) == ends[topic]
        assert await rig.kafka.stable_ends(other, [1]) == ends[other]
        await producer.transact([write(producer, topic, [b"d"])])
        assert (await keys_in(rig, topic))[-3:] == [b"a", b"c", b"d"]
        assert (await keys_in(rig, other, 1))[-1:] == [b"b"]
    await producer.close()


async def test_nothing_of_what_was_sent_is_there_where_its_transaction_is_given_up(rig: Rig) -> None:
    topic, limited = await rig.topic(), await rig.topic(max_message_bytes=500)

    async def sent() -> Producer:
        producer = await rig.kafka.producer(name())
        await producer.send([write(producer, topic, [b"a"])])
        return producer

    await (await sent()).close()
    producer = await sent()
    with pytest.raises(Rejected) as caught:
        await producer.send([write(producer, limited, [b"b"], value=b"x" * 1_000), write(producer, topic, [b"c"])])
    assert caught.value.reasons == {(limited, 0): "too_large"}
    await producer.close()
    producer = await sent()
    with pytest.raises(Rejected):
        await producer.transact([write(producer, topic, [b"d"]), write(producer, limited, [b"e"], value=b"x" * 1_000)])
    await producer.close()
    # Whoever waits for it need not wait for a time-out.
    assert await keys_in(rig, topic) == []
    assert await keys_in(rig, limited) == []


async def test_who_was_fenced_between_two_parts_has_sent_nothing(rig: Rig) -> None:
    id, topic = name(), await rig.topic()
    first = await rig.kafka.producer(id)
    await first.send([write(first, topic, [b"a"])])
    second = await rig.kafka.producer(id)
    with pytest.raises(Fenced):
        await first.send([write(first, topic, [b"b"])])
    await second.send([write(second, topic, [b"c"])])
    await second.transact([write(second, topic, [b"d"])])
    assert await keys_in(rig, topic) == [b"c", b"d"]
    await first.close()
    await second.close()


async def test_nothing_of_a_transaction_with_a_rejected_write_is_there(rig: Rig) -> None:
    """aiokafka would commit it all the same: the offsets would move on, and the message be lost."""
    small, other, group = await rig.topic(max_message_bytes=2_000), await rig.topic(), name()
    first = await rig.kafka.producer(name())
    await first.transact([write(first, other, [b"before"])], GroupOffsets(group, other, {0: 1}))
    producer = await rig.kafka.producer(name())
    writes = [write(producer, other, [b"a"]), write(producer, small, [b"b"], value=b"x" * 5_000)]
    for order in (writes, [write(producer, other, [b"c"])]):
        if order is writes:
            with pytest.raises(Rejected) as caught:
                await producer.transact(order, GroupOffsets(group, other, {0: 9}))
            assert caught.value.reasons == {(small, 0): "too_large"}
    await producer.close()
    assert await committed(rig, group, other) == {0: 1}
    assert await keys_in(rig, other) == [b"before"]
    assert await keys_in(rig, small) == []
    await first.close()


async def test_a_rejected_write_among_the_first_ones_is_as_bad(rig: Rig) -> None:
    small, other, group = await rig.topic(max_message_bytes=2_000), await rig.topic(), name()
    producer = await rig.kafka.producer(name())
    writes = [write(producer, small, [b"b"], value=b"x" * 5_000), write(producer, other, [b"a"])]
    with pytest.raises(Rejected):
        await producer.transact(writes, GroupOffsets(group, other, {0: 9}))
    await producer.close()
    assert await committed(rig, group, other) == {}
    assert await keys_in(rig, other) == []


# Others run `xferq topics` on the same Kafka, which puts all queues' settings right.
@pytest.mark.alone
async def test_a_timestamp_that_the_topic_does_not_take(rig: Rig) -> None:
    topic = await rig.topic(older_ms=3_600_000)
    assert (await rig.kafka.timestamp_limits(topic))[0] == 3_600_000
    assert (await rig.kafka.timestamp_limits(await rig.topic()))[0] > 1 << 60
    producer = await rig.kafka.producer(name())
    with pytest.raises(Rejected) as caught:
        await producer.transact([write(producer, topic, [b"a"])])
    assert caught.value.reasons == {(topic, 0): "timestamp"}
    await producer.close()
    assert await keys_in(rig, topic) == []


async def test_a_producer_is_fenced_by_the_next_one_with_its_id(rig: Rig) -> None:
    topic, group, id = await rig.topic(), name(), name()
    first = await rig.kafka.producer(id)
    await first.transact([write(first, topic, [b"a"])])
    second = await rig.kafka.producer(id)
    with pytest.raises(Fenced):
        await first.transact([write(first, topic, [b"b"])], GroupOffsets(group, topic, {0: 5}))
    await second.transact([write(second, topic, [b"c"])])
    assert await keys_in(rig, topic) == [b"a", b"c"]
    assert await committed(rig, group, topic) == {}
    await first.close()
    await second.close()


async def test_taking_an_id_over_ends_what_it_had_open(rig: Rig) -> None:
    topic, id = await rig.topic(), name()
    await rig.open_transaction(topic, [b"a"], transactional_id=id)
    assert await rig.kafka.stable_ends(topic, [0]) == {0: 0}
    producer = await rig.kafka.producer(id)
    await eventually(lambda: rig.kafka.stable_ends(topic, [0]), {0: 2})
    assert await keys_in(rig, topic) == []
    await producer.close()


async def test_the_first_record_fits_into_any_batch(rig: Rig) -> None:
    topic = await rig.topic()
    producer = await rig.kafka.producer(name())
    batch = producer.batch(1_000)
    assert batch.append(timestamp=None, key=None, value=b"x" * 3_000, headers=[]) is not None
    assert batch.size() > 3_000
    assert batch.append(timestamp=None, key=None, value=b"", headers=[]) is None
    await producer.transact([Write(topic, 0, batch)])
    assert await keys_in(rig, topic) == [None]
    await producer.close()


async def test_a_batch_of_the_largest_size_is_taken_and_one_byte_more_is_not(rig: Rig) -> None:
    topic = await rig.topic(max_message_bytes=2_000)
    assert await rig.kafka.max_message_bytes(topic) == 2_000
    for over, taken in ((0, True), (1, False)):
        producer = await rig.kafka.producer(name())
        probe = producer.batch(1)
        probe.append(timestamp=0, key=b"k", value=b"x" * 1_500, headers=[("h", b"1")])
        batch = producer.batch(1)
        batch.append(timestamp=0, key=b"k", value=b"x" * (3_500 - probe.size() + over), headers=[("h", b"1")])
        assert batch.size() == 2_000 + over
        if taken:
            await producer.transact([Write(topic, 0, batch)])
        else:
            with pytest.raises(Rejected):
                await producer.transact([Write(topic, 0, batch)])
        await producer.close()


async def test_what_compresses_well_is_taken_where_it_would_be_too_large(rig: Rig) -> None:
    topic = await rig.topic(max_message_bytes=2_000)
    producer = await rig.kafka.producer(name())
    batch = producer.batch(1, compression="zstd")
    batch.append(timestamp=0, key=b"k", value=b"x" * 50_000, headers=[])
    await producer.transact([Write(topic, 0, batch)])
    assert await keys_in(rig, topic) == [b"k"]
    await producer.close()


async def test_partitions_of_topics_that_are_there(rig: Rig) -> None:
    one, three = await rig.topic(), await rig.topic(partitions=3)
    producer = await rig.kafka.producer(name())

    async def look() -> dict[str, int]:
        return await producer.partitions({one, three, name()})

    await eventually(look, {one: 1, three: 3})
    await producer.close()


# ---- offsets


async def test_a_group_s_offsets_are_withheld_while_a_transaction_is_pending(rig: Rig) -> None:
    topic, group = await rig.topic(partitions=2), name()
    assert await committed(rig, group, topic) == {}
    assert await rig.commit_without_membership(group, topic, {0: 3})
    transaction = await rig.open_transaction(topic, [], offsets=GroupOffsets(group, topic, {0: 8}))
    with pytest.raises(Unavailable):
        await rig.kafka.committed(group, topic, [0, 1])
    await transaction.commit()
    assert await committed(rig, group, topic) == {0: 8}
    transaction = await rig.open_transaction(topic, [], offsets=GroupOffsets(group, topic, {0: 9}))
    await transaction.abort()
    assert await committed(rig, group, topic) == {0: 8}


async def test_a_plain_commit_behind_a_pending_one_wins(rig: Rig) -> None:
    topic, group = await rig.topic(), name()
    transaction = await rig.open_transaction(topic, [], offsets=GroupOffsets(group, topic, {0: 8}))
    assert await rig.commit_without_membership(group, topic, {0: 2})
    await transaction.commit()
    assert await committed(rig, group, topic) == {0: 2}


async def test_offsets_are_committed_only_where_the_group_stands_where_it_stood(rig: Rig) -> None:
    topic, group = await rig.topic(partitions=2), name()
    producer = await rig.kafka.producer(name())
    await producer.transact([], GroupOffsets(group, topic, {0: 3, 1: 0}, expected={}))
    assert await committed(rig, group, topic) == {0: 3, 1: 0}
    await producer.transact([], GroupOffsets(group, topic, {0: 4, 1: 1}, expected={0: 3, 1: 0}))
    assert await committed(rig, group, topic) == {0: 4, 1: 1}
    with pytest.raises(Conflict):
        await producer.transact([], GroupOffsets(group, topic, {0: 9, 1: 9}, expected={0: 3, 1: 1}))
    await producer.close()
    assert await committed(rig, group, topic) == {0: 4, 1: 1}


async def test_a_claim_s_offsets_are_told_from_others_until_somebody_commits(rig: Rig) -> None:
    topic, group = await rig.topic(partitions=2), name()
    producer = await rig.kafka.producer(name())
    await producer.transact([], GroupOffsets(group, topic, {0: 3, 1: 2}, stamped=[0]))
    await producer.close()
    assert await committed(rig, group, topic) == {0: 3, 1: 2}
    assert await rig.kafka.stamped(group, topic, [0, 1]) == {0: 3}
    assert await rig.commit_without_membership(group, topic, {0: 4})
    assert await rig.kafka.stamped(group, topic, [0, 1]) == {}


# ---- publishing


async def test_published_records_keep_their_order_and_go_by_murmur2(rig: Rig) -> None:
    topic = await rig.topic(partitions=3)
    await rig.kafka.publish(topic, [(b"k", b"%d" % number) for number in range(20)] + [(b"k", None)])
    where = (murmur2(b"k") & 0x7FFFFFFF) % 3
    reader = await rig.kafka.reader(topic, where, 0, 21)
    values: list[bytes | None] = []
    while reader.position < 21:
        values += [record.value for record in await reader.read()]
    assert values == [*(b"%d" % number for number in range(20)), None]
    await reader.close()
    await rig.kafka.publish(topic, [(b"k", b"v")], partition=(where + 1) % 3)
    assert await keys_in(rig, topic, (where + 1) % 3) == [b"k"]


@pytest.mark.parametrize("headers", [[], [("a", b"1"), ("b", b"\xff"), ("a", b"")]])
async def test_published_records_have_the_headers_they_were_given(rig: Rig, headers: list[tuple[str, bytes]]) -> None:
    topic = await rig.topic()
    await rig.kafka.publish(topic, [(b"k", b"v"), (b"l", None)], partition=0, headers=headers)
    reader = await rig.kafka.reader(topic, 0, 0, 2)
    found = []
    while reader.position < 2:
        found += [list(record.headers) for record in await reader.read()]
    await reader.close()
    assert found == [headers, headers]


# ---- marks


async def test_a_mark_is_there_once_it_is_written_behind_all_that_was_there(rig: Rig) -> None:
    topic = await rig.topic(partitions=2)
    await rig.write(topic, [b"a"], partition=1)
    tail = await rig.kafka.tail(topic, {0: 0, 1: 0})
    await rig.kafka.mark(topic, 1, b"k", [("number", b"7")])
    found: list[tuple[object, ...]] = []

    async def follow() -> int:
        found.extend((r.partition, r.key, r.value, *map(tuple, r.headers)) for r in await tail.read(100))
        return (await tail.positions([1]))[1]

    await eventually(follow, 2)
    assert found == [(1, b"a", b"v"), (1, b"k", None, ("number", b"7"))]
    await tail.close()


async def test_a_mark_that_can_t_be_written_spoils_nothing_that_is_written_at_the_same_time(rig: Rig) -> None:
    topic = await rig.topic()
    nowhere = rig.kafka.mark(name(), 0, b"k", [])
    others = [rig.kafka.mark(topic, 0, b"k", []), rig.kafka.publish(topic, [(b"p", b"v")], partition=0)]
    failed, *rest = await asyncio.gather(nowhere, *others, return_exceptions=True)
    assert isinstance(failed, Unavailable)
    assert rest == [None, None]
    await rig.kafka.mark(topic, 0, b"k", [])
    assert sorted(await keys_in(rig, topic), key=str) == [b"k", b"k", b"p"]


async def test_a_tail_says_which_logs_do_not_hold_where_it_stands_and_leaves_what_it_is_told_to(rig: Rig) -> None:
    topic = await rig.topic(partitions=2)
    await rig.write(topic, [b"a", b"b", b"c"])
    await rig.write(topic, [b"z"], partition=1)
    await rig.kafka.delete_before(topic, {0: 2})
    for start in (0, 9):
        tail = await rig.kafka.tail(topic, {0: start})
        with pytest.raises(OutOfRange) as caught:
            await tail.read(20_000)
        assert caught.value.partitions == {0}
        await tail.close()
    tail = await rig.kafka.tail(topic, {0: 2, 1: 0})
    tail.leave(0)
    found: list[bytes | None] = []

    async def follow() -> list[bytes | None]:
        found.extend(record.key for record in await tail.read(100) if record.partition == 1)
        return found

    await eventually(follow, [b"z"])
    assert await tail.positions([0]) == {0: 2}
    await tail.close()


@pytest.mark.broker
async def test_a_tail_that_waits_asks_less_often_until_something_comes(broker: EmbeddedBroker) -> None:
    async with Cluster(Settings(bootstrap_servers=broker.bootstrap_servers)) as kafka:
        rig = BrokerRig(broker.bootstrap_servers)
        topic = await rig.topic()
        tail = await kafka.tail(topic, {0: 0})
        fetcher = tail._consumer._fetcher
        waits = []
        for _ in range(6):
            assert list(await tail.read(10)) == []
            waits.append(fetcher._fetch_max_wait_ms)
        assert waits == [500, 500, 500, 500, 1_500, 1_500]
        await rig.write(topic, [b"a"])
        while not (found := list(await tail.read(1_000))):
            pass
        assert [record.key for record in found] == [b"a"]
        assert fetcher._fetch_max_wait_ms == 500
        await tail.close()
        await rig.close()


# ---- topics


async def test_creating_says_what_could_not_be_created(rig: Rig) -> None:
    there, new, invalid = await rig.topic(), name(), "what? " + name()
    failures = await rig.kafka.create([there, new, invalid, "x" * 250])
    assert failures.keys() == {invalid, "x" * 250}
    assert all(failures.values())

    async def look() -> bool:
        return new in await rig.kafka.topics() and await rig.kafka.topic(new) is not None

    await eventually(look, True)
    assert invalid not in await rig.kafka.topics()


async def test_a_topic_created_again_is_another_one(rig: Rig) -> None:
    assert await rig.kafka.topic(name()) is None
    topic, group = name(), name()
    ids = set()
    for _ in range(2):
        assert await rig.kafka.create([topic]) == {}

        async def there() -> bool:
            return await rig.kafka.topic(topic) is not None

        await eventually(there, True)
        found = await rig.kafka.topic(topic)
        assert found is not None
        assert found.name == topic
        assert found.partitions == 4
        ids.add(found.id)
        assert await committed(rig, group, topic) == {}  # the offsets went with the first one
        assert await rig.commit_without_membership(group, topic, {0: 3})
        assert await committed(rig, group, topic) == {0: 3}
        await rig.delete(topic)
    assert len(ids) == 2


# ---- members


async def test_a_held_group_takes_commits_from_nobody(rig: Rig) -> None:
    topic, group = await rig.topic(), name()
    await rig.write(topic, [b"a", b"b", b"c"])
    member = await rig.member(group, topic)
    assert await member.poll(1) == [b"a"]
    assert await member.commit()
    assert await committed(rig, group, topic) == {0: 1}
    before = await rig.kafka.members(group)
    assert len(before) == 1

    hold = await rig.kafka.hold(group)
    assert hold is not None
    assert set(hold.evicted) >= before
    members = await rig.kafka.members(group)
    assert hold.member_id in members
    assert not before & members
    assert not await rig.commit_without_membership(group, topic, {0: 0})
    assert not await member.commit()
    # A transaction of ours is taken all the same.
    producer = await rig.kafka.producer(name())
    await producer.transact([], GroupOffsets(group, topic, {0: 2}))
    await producer.close()
    assert await committed(rig, group, topic) == {0: 2}

    await hold.release()
    assert hold.member_id not in await rig.kafka.members(group)
    polled = await member.poll(1)
    if polled == [b"b"]:  # fetched before; on a slow machine its client has not learned of the eviction yet
        polled = await member.poll(1)
    assert polled == [b"c"]  # it goes on by itself, beyond what was claimed
    await member.close()


async def test_nobody_to_hold_up(rig: Rig) -> None:
    assert await rig.kafka.members(name()) == set()
    assert await rig.kafka.hold(name()) is None


async def test_into_a_group_that_eviction_left_empty_anybody_may_commit(rig: Rig) -> None:
    """Why a group is held and not only emptied."""
    topic, group = await rig.topic(), name()
    await rig.write(topic, [b"a"])
    member = await rig.member(group, topic)
    await member.poll(1)
    assert not await rig.commit_without_membership(group, topic, {0: 0})
    await member.close()

    async def look() -> set[str]:
        return await rig.kafka.members(group)

    await eventually(look, set())
    assert await rig.commit_without_membership(group, topic, {0: 0})


async def test_evicting_passes_over_those_who_have_left(rig: Rig) -> None:
    topic, group = await rig.topic(), name()
    await rig.write(topic, [b"a"])
    member = await rig.member(group, topic)
    await member.poll(1)
    before = await rig.kafka.members(group)
    await rig.kafka.evict(group, [*before, "never-there"])
    assert not before & await rig.kafka.members(group)
    await rig.kafka.evict(group, before)
    await member.close()
