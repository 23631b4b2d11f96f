"""Header names that are not UTF-8, as a client in C may write them: Kafka takes them, aiokafka can't decode them."""

import asyncio
import struct
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c

from streams.broker import EmbeddedBroker
from streams.kafka.cluster import Cluster
from streams.kafka.topics import Topics
from streams.kafka.wire.batches import DrainBatch
from streams.kafka.wire.records import LenientRecords, UndecodedName
from streams.settings.settings import Settings
from tests.broker.scene import Scene, wait_until
from tests.support.names import own_name, remove_topics
from tests.support.patience import WAIT_S

pytestmark = pytest.mark.nodes


async def write(servers: str, topic: str, partition: int = 0) -> None:
    """One record with a header whose name is two bytes that no UTF-8 has."""
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()
    try:
        batch = producer.create_batch()
        batch.append(key=b"k", value=b"{}", timestamp=None, headers=[("zz", b"1")])
        raw = bytearray(batch._build())
        at = raw.index(b"zz")
        raw[at : at + 2] = b"\xff\xfe"
        struct.pack_into(">I", raw, 17, calc_crc32c(memoryview(raw)[21:]))
        batch._buffer = bytes(raw)
        await (await producer.send_batch(batch, topic, partition=partition))
    finally:
        await producer.stop()


def test_such_names_are_read_and_written_byte_for_byte() -> None:
    name = UndecodedName(b"\xff\xfe")
    for compression in (0, 1, 3, 4):
        plain = DrainBatch(100_000, compression, is_transactional=1)
        assert plain.append(timestamp=1, key=b"a", value=b"1", headers=[("x", b"y")]) is not None
        assert plain.append(timestamp=2, key=b"b", value=b"2", headers=[(name, b"y")]) is None
        mixed = DrainBatch(100_000, compression, is_transactional=1)
        assert mixed.append(timestamp=2, key=b"b", value=b"2", headers=[("x", None), (name, b"y")]) is not None
        assert mixed.append(timestamp=3, key=None, value=None, headers=[]) is not None
        data = b""
        for offset, batch in ((10, plain), (20, mixed)):
            data += struct.pack(">q", offset) + bytes(batch._build())[8:]
        records = LenientRecords(data)
        found = []
        while records.has_next():
            one = records.next_batch()
            assert one is not None
            assert one.validate_crc()
            found += [(r.offset, r.timestamp, r.key, r.value, [(n.encode(), v) for n, v in r.headers]) for r in one]
        assert found == [
            (10, 1, b"a", b"1", [(b"x", b"y")]),
            (20, 2, b"b", b"2", [(b"x", None), (b"\xff\xfe", b"y")]),
            (21, 3, None, None, []),
        ]


async def test_a_message_with_such_a_header_does_not_stop_the_drain_of_its_partition(broker: EmbeddedBroker) -> None:
    topic = own_name("headers")
    settings: dict[str, Any] = {"bootstrap_servers": broker.bootstrap_servers}
    async with Cluster(Settings(**settings)) as kafka:
        await Topics(kafka.connection).create({topic: 1}, {}, 1)
        while await kafka.topic(topic) is None:
            await asyncio.sleep(0.02)
        await write(broker.bootstrap_servers, topic)
        reader = await kafka.reader(topic, 0, 0, 1)
        try:
            async with asyncio.timeout(WAIT_S):
                while reader.position < 1:
                    await reader.read()
        finally:
            await reader.close()
    remove_topics(broker.bootstrap_servers, topic)


def test_a_command_with_such_a_header_does_not_end_the_workers(broker: EmbeddedBroker) -> None:
    with Scene(broker.bootstrap_servers) as scene:
        worker = scene.worker().started()
        asyncio.run(write(broker.bootstrap_servers, scene.settings.commands_topic))
        scene.put(1)
        scene.cancel("after", partition=0)

        def over() -> bool:
            assert worker.is_running, worker.log[-2_000:]
            status = scene.ledger().status("after")
            return status is not None and status["state"] == "done"

        wait_until(over)
