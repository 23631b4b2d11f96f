"""Building record batches: by aiokafka's compiled builder, or here where that one is slow or can't.

aiokafka's builder takes a batch's checksum by a table in software: half a microsecond for each KiB, which is most of
what a large message costs. And it only writes header names that are UTF-8 (`UndecodedName`). Here the processor's own
instruction takes the checksum, and a message's bytes stay where they are until they go into a request. That costs a
microsecond more for each record, so it is for batches of large ones.
"""

import struct
import time
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import google_crc32c
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import encode_varint

from streams.kafka.wire.records import UndecodedName
from streams.records import Header

LARGE_BYTES = 4096
"""A batch whose first value is as large as this, or larger, is built here."""

COMPRESSION = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
"""The codecs' numbers in a batch's attributes."""

ENCODERS: dict[int, Callable[[bytes], bytes]] = {1: gzip_encode, 2: snappy_encode, 3: lz4_encode, 4: zstd_encode}
"""What compresses, by these numbers."""
_TRANSACTIONAL = 0x10
_NULL = b"\x01"  # the length -1
_MAGIC = 2
_head = struct.Struct(">qiibI")
"""Base offset, bytes that follow the length, leader epoch, magic, checksum."""
_checked = struct.Struct(">hiqqqhii")
"""Where the checksum begins: attributes, last offset, first and latest time in ms, producer, epoch, sequence, count."""
_HEAD_BYTES = _head.size + _checked.size
_HALF = 2**63
"""Times are numbers of 64 bits."""
_BEFORE_LENGTH = 12
"""Bytes up to the end of the length, which it does not count."""


class DrainBatch(BatchBuilder):  # type: ignore[misc]
    """aiokafka's BatchBuilder, with the builder that suits its first record.

    A batch that has begun in aiokafka's own is full when a record comes that it can't write.
    """

    _builder: Any
    _closed: bool

    def __init__(self, batch_size: int, compression_type: int, *, is_transactional: int) -> None:
        super().__init__(batch_size, compression_type, is_transactional=is_transactional)
        self._append: Callable[..., Any] | None = self._builder.append
        self._limits = (batch_size, compression_type, is_transactional)

    def append(self, *, timestamp: int | None, key: bytes | None, value: bytes | None, headers: Any = ()) -> Any:
        """Add a record; None where it does not fit any more."""
        if self._closed or self._append is None:
            return None
        if self._relative_offset == 0 and value is not None and len(value) >= LARGE_BYTES:
            self._build_here()
        try:
            added = self._append(self._relative_offset, timestamp, key, value, headers)
        except TypeError:
            if not any(isinstance(name, UndecodedName) for name, _ in headers):
                raise
            if self._relative_offset:
                self.close()
                return None
            self._build_here()
            added = self._append(0, timestamp, key, value, headers)
        if added is None:
            self._closed = True
        else:
            self._relative_offset += 1
        return added

    def _build_here(self) -> None:
        self._builder = PieceBuilder(*self._limits)
        self._append = self._builder.append

    def _build(self) -> Any:
        built = super()._build()
        self._append = None  # it holds what the batch was built from
        return built

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._builder.set_producer_state(producer_id, producer_epoch, base_sequence)


class PieceBuilder:
    """A batch of the format that Kafka has had since 0.11 (KIP-98), kept in pieces until it is built."""

    __slots__ = (
        "_codec",
        "_first_ms",
        "_latest_ms",
        "_limit",
        "_pieces",
        "_producer",
        "_records",
        "_size",
        "_transactional",
    )

    def __init__(self, limit: int, codec: int, transactional: int) -> None:
        """An empty one of at most `limit` bytes before compression; the first record always fits."""
        self._limit = limit
        self._codec = codec
        self._transactional = _TRANSACTIONAL if transactional else 0
        self._producer = (-1, -1, 0)
        self._pieces: list[bytes] = []
        self._size = _HEAD_BYTES
        self._records = 0
        self._first_ms = 0
        self._latest_ms = 0

    def append(
        self, offset: int, timestamp: int | None, key: bytes | None, value: bytes | None, headers: Sequence[Header]
    ) -> int | None:
        """Add a record; its bytes in the batch, or None where it does not fit any more.

        `offset` is within the batch, from 0; `timestamp` is in ms, by default the time of now.
        """
        if timestamp is None:
            timestamp = int(time.time() * 1000)
        since_ms = timestamp - self._first_ms if self._records else 0
        since_ms = (since_ms + _HALF) % (2 * _HALF) - _HALF  # as all readers reckon
        length_of_value = _NULL if value is None else _varint(len(value))
        start = b"".join((b"\0", _varint(since_ms), _varint(offset), _field(key), length_of_value))
        fields = [_field(field) for name, content in headers for field in (name.encode(), content)]
        value, end = value or b"", b"".join((_varint(len(headers)), *fields))
        length = len(start) + len(value) + len(end)
        prefix = _varint(length)
        size = len(prefix) + length
        if self._size + size >= self._limit and self._records:  # as aiokafka, which leaves a byte free
            return None
        if not self._records:
            self._first_ms = self._latest_ms = timestamp
        elif timestamp > self._latest_ms:
            self._latest_ms = timestamp
        self._records += 1
        self._size += size
        self._pieces += (prefix + start, value, end)
        return size

    def set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        """Whose batch it is, and which of the producer's records in that partition is its first."""
        self._producer = (producer_id, producer_epoch, base_sequence)

    def size(self) -> int:
        """Bytes so far, before compression."""
        return self._size

    def build(self) -> "Pieces":
        """The whole batch; compressed, if that makes it smaller."""
        pieces, size, attributes = self._pieces, self._size, self._transactional
        if self._codec:
            plain = b"".join(pieces)
            packed = bytes(ENCODERS[self._codec](plain))
            if len(packed) < len(plain):
                pieces, size, attributes = [packed], _HEAD_BYTES + len(packed), attributes | self._codec
        last = self._records - 1
        checked = _checked.pack(attributes, last, self._first_ms, self._latest_ms, *self._producer, self._records)
        crc = google_crc32c.value(checked)
        for piece in pieces:
            crc = google_crc32c.extend(crc, piece)
        return Pieces((_head.pack(0, size - _BEFORE_LENGTH, -1, _MAGIC, crc), checked, *pieces), size)


class Pieces:
    """A batch that is built, in pieces that lie one behind the other; its length is that of all of them in bytes."""

    __slots__ = ("_pieces", "_size")

    def __init__(self, pieces: Sequence[bytes], size: int) -> None:
        """Of `size` bytes in all."""
        self._pieces = pieces
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def __bytes__(self) -> bytes:
        return b"".join(self._pieces)


def _field(content: bytes | None) -> bytes:
    """With its length in front; that of null is -1."""
    return _NULL if content is None else _varint(len(content)) + content


@lru_cache(4096)
def _varint(value: int) -> bytes:
    """A signed number of at most 64 bits as protocol buffers write it: zigzag, seven bits to a byte."""
    found = bytearray()
    encode_varint(value, found.append)
    return bytes(found)
