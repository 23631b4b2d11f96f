"""A transaction of which the coordinator knows nothing, so that it never ends: a bug's trace in Kafka."""

import time

from aiokafka import AIOKafkaProducer
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.structs import TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from tests.broker.scene import WAIT_S, wait_until
from tests.support.patience import stretched_ms

_VERIFICATION = "transaction.partition.verification.enable"
_AGE_MS = 3_600_000


async def hang(
    servers: str, topic: str, partition: int, transactional_id: str | None = None, key: bytes = b"nobody"
) -> int:
    """Write a record in a transaction to which its partition was never added, an hour ago; returns its offset.

    The transactional id is nobody else's, unless it is given.

    Kafka turns that down (KIP-890), unless it is told not to look; for a moment, here.
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, transactional_id=transactional_id or f"hanging-{topic}-{partition}"
    )
    _verify(servers, False)
    try:
        await producer.start()
        manager = producer._txn_manager
        batch = _DefaultRecordBatchBuilderPy(
            2, 0, is_transactional=1, producer_id=manager.producer_id, producer_epoch=manager.producer_epoch,
            base_sequence=0, batch_size=1_000,
        )  # fmt: skip
        batch.append(0, int(time.time() * 1000) - _AGE_MS, key, b"{}", [])
        await producer.client._wait_on_metadata(topic)
        node = producer.client.cluster.leader_for_partition(TopicPartition(topic, partition))
        request = ProduceRequest(
            transactional_id=manager.transactional_id, required_acks=-1, timeout=stretched_ms(10_000),
            topics=[(topic, [(partition, bytes(batch.build()))])],
        )  # fmt: skip
        answer = await producer.client.send(node, request)
        ((_, ((_, error, offset, *_rest),)),) = answer.topics
        assert error == 0, error
        return int(offset)
    finally:
        _verify(servers, True)
        await producer.stop()


def _verify(servers: str, is_on: bool) -> None:
    """Whether the brokers look if a partition is part of the transaction that writes to it."""
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    nodes = [str(node) for node in admin.list_topics(timeout=WAIT_S).brokers]
    value = "true" if is_on else "false"
    for node in nodes:
        entry = ConfigEntry(_VERIFICATION, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.BROKER, node, incremental_configs=[entry])
        for future in admin.incremental_alter_configs([resource]).values():
            future.result(WAIT_S)
        asked = ConfigResource(ResourceType.BROKER, node)
        wait_until(
            lambda asked=asked: admin.describe_configs([asked])[asked].result(WAIT_S)[_VERIFICATION].value == value
        )  # type: ignore[misc]
