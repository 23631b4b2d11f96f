"""Record batches that are small on the wire and huge in memory, made by hand: no client would write them."""

import struct
import zlib
from typing import Any

import cramjam
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.util import calc_crc32c

MIB = 1 << 20
CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def packed(codec: str, head: bytes, zeros: int, tail: bytes = b"") -> bytes:
    """`head`, so many MiB of zeros, and `tail`, compressed piece by piece."""
    pieces = [head, *([bytes(MIB)] * zeros), tail]
    if codec == "gzip":
        zipper = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        return b"".join([*map(zipper.compress, pieces), zipper.flush()])
    packer: Any = cramjam.zstd.Compressor(3)
    if codec == "lz4":
        packer = cramjam.lz4.Compressor(level=9, content_checksum=False, block_linked=False)
    for piece in pieces:
        packer.compress(piece)
    return bytes(packer.finish())


def varint(value: int) -> bytes:
    """A number as records have it: zigzag, seven bits at a time."""
    value = value << 1
    raw = bytearray()
    while value > 0x7F:
        raw.append(0x80 | value & 0x7F)
        value >>= 7
    raw.append(value)
    return bytes(raw)


def batch(codec: str, mib: int) -> bytes:
    """A batch with one record, whose value is so many MiB of zeros."""
    size = mib * MIB
    before = b"\0" + varint(0) + varint(0) + varint(1) + b"k" + varint(size)
    after = varint(0)
    head = varint(len(before) + size + len(after)) + before
    return sealed(codec, packed(codec, head, mib, after), records=1)


def batch_of_many(codec: str, records: int) -> bytes:
    """A batch of so many records with nothing in them."""
    one = b"".join(varint(6 + len(varint(n)) - 1) + b"\0\0" + varint(n) + b"\1\1\0" for n in range(records))
    return sealed(codec, packed(codec, one, 0), records=records)


def sealed(codec: str, body: bytes, records: int) -> bytes:
    """A batch (format 2) with this body, and a header that fits it."""
    plain = _DefaultRecordBatchBuilderPy(2, 0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
                                         batch_size=1000)  # fmt: skip
    plain.append(0, 1_790_000_000_000, b"k", b"v", [])
    header = bytearray(plain.build()[:61])
    struct.pack_into(">i", header, 8, len(header) - 12 + len(body))
    struct.pack_into(">h", header, 21, CODECS[codec])
    struct.pack_into(">i", header, 23, records - 1)
    struct.pack_into(">i", header, 57, records)
    raw = header + body
    struct.pack_into(">I", raw, 17, calc_crc32c(memoryview(raw)[21:]))
    return bytes(raw)


async def write(servers: str, topic: str, partition: int, *batches: bytes) -> None:
    """Write batches as they are."""
    producer = AIOKafkaProducer(bootstrap_servers=servers)
    await producer.start()
    try:
        for raw in batches:
            builder = producer.create_batch()
            builder.append(key=b"k", value=b"", timestamp=None)
            builder._build()
            builder._buffer = raw
            await (await producer.send_batch(builder, topic, partition=partition))
    finally:
        await producer.stop()
