"""What xferq changes in aiokafka: all of it, once in each process, before its first client.

Each is tried against the library's own behaviour in `tests/contract_ports/`, on the version that is required here.
"""

from functools import partial
from importlib import import_module

import aiokafka
import aiokafka.client
import aiokafka.conn
import aiokafka.consumer.fetcher
import aiokafka.producer.sender
from aiokafka.protocol.metadata import MetadataRequest

from streams.errors import Misconfigured
from streams.kafka.wire.codecs import DECODERS, USERS
from streams.kafka.wire.produce import LeanProduceRequest
from streams.kafka.wire.reconnect import get_conn, metadata_update
from streams.kafka.wire.records import LenientRecords
from streams.kafka.wire.runs import RunPartitionRecords

_VERSION = "0.14."


def install() -> None:
    """Change it; once more does nothing.

    Raises:
        Misconfigured: this is another version of aiokafka than the one that is changed here.
    """
    if not aiokafka.__version__.startswith(_VERSION):
        raise Misconfigured(
            f"aiokafka {aiokafka.__version__} is installed, but xferq needs {_VERSION}x: it changes some of its inside"
        )
    # aiokafka asks for topics with the wish to have them created, and has no option not to. Where the broker grants it
    # (auto.create.topics.enable, by default), a queue would come about with a retention of seven days.
    aiokafka.client.MetadataRequest = partial(MetadataRequest, allow_auto_topic_creation=False)
    # What a fetch brings is megabytes; by default the transport stops reading, and starts again, every 128 KiB of it.
    aiokafka.conn.READER_LIMIT = 4 << 20
    # Any name of a header can be read; one fetch unpacks to no more memory than a worker has, and may be one run.
    aiokafka.consumer.fetcher.MemoryRecords = LenientRecords
    aiokafka.consumer.fetcher.PartitionRecords = RunPartitionRecords
    # Fewer copies of what is sent.
    aiokafka.producer.sender.ProduceRequest = LeanProduceRequest
    # While no broker can be reached, no client asks for one 50 times a second.
    aiokafka.client.AIOKafkaClient._get_conn = get_conn
    aiokafka.client.AIOKafkaClient._metadata_update = metadata_update
    for module in map(import_module, USERS):
        for name, unpack in DECODERS.items():
            getattr(module, name)  # AttributeError where aiokafka does it in another way now
            setattr(module, name, unpack)
