"""A record batch that is passed on as it is: what it would unpack to is more than a worker may hold."""

import struct
from collections.abc import Sequence
from typing import Any

import google_crc32c
from aiokafka.producer.message_accumulator import BatchBuilder

from streams.records import Header

_LEADER_EPOCH_AT = 12
_CRC_AT = 17
_ATTRIBUTES_AT = 21
"""Here begins what the checksum is of."""
_PRODUCER_AT = 43
_COUNT_AT = 57
_KEPT = 0x07
"""Of the attributes: the codec. Whose clock the timestamps are of is for the topic to say."""
_TRANSACTIONAL = 0x10
_producer = struct.Struct(">qhi")
"""Producer, epoch, sequence."""


class UnopenedBatch(BatchBuilder):  # type: ignore[misc]
    """A batch of format 2 (Kafka 0.11 and later) for aiokafka's producer: only whose it is changes.

    Kafka has counted its records when it took them, and gives them new offsets when it takes them again.
    """

    def __init__(self, raw: bytes) -> None:
        """`raw` is the batch as it lies in the log, its base offset included."""
        super().__init__(len(raw), 0, is_transactional=1)
        self.close()
        self._raw = bytearray(raw)
        (self._relative_offset,) = struct.unpack_from(">i", raw, _COUNT_AT)
        (attributes,) = struct.unpack_from(">h", raw, _ATTRIBUTES_AT)
        struct.pack_into(">h", self._raw, _ATTRIBUTES_AT, attributes & _KEPT | _TRANSACTIONAL)
        struct.pack_into(">i", self._raw, _LEADER_EPOCH_AT, -1)
        struct.pack_into(">q", self._raw, 0, 0)

    def append(
        self, *, timestamp: int | None, key: bytes | None, value: bytes | None, headers: Sequence[Header] = ()
    ) -> None:
        """It is full."""

    def size(self) -> int:
        """Its bytes, packed."""
        return len(self._raw)

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        _producer.pack_into(self._raw, _PRODUCER_AT, producer_id, producer_epoch, base_sequence)

    def _build(self) -> Any:
        struct.pack_into(">I", self._raw, _CRC_AT, google_crc32c.value(bytes(self._raw[_ATTRIBUTES_AT:])))
        return self._raw
