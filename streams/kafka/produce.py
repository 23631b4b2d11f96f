"""Produce requests that are encoded with one copy of the batches they carry.

aiokafka encodes a request from the inside out and copies every batch once for each level: six times. The requests of
a drain hold megabytes, so that this alone took a tenth of its time.
"""

import struct
from collections.abc import Callable
from typing import Any

import aiokafka.producer.sender
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.types import String

_text = String("utf-8").encode
_head = struct.Struct(">hii").pack  # acks, time-out in ms, number of topics
_count = struct.Struct(">i").pack
_partition = struct.Struct(">ii").pack  # number, bytes
_FIRST_VERSION = 3
"""The first one with a transactional id; they are written alike up to version 8."""


class LeanProduceRequest(ProduceRequest):  # type: ignore[misc]
    """aiokafka's request, whose bytes are the same and cost less."""

    def build(self, request_struct_class: type[Any]) -> Any:
        """The request in one version of the protocol."""
        built = super().build(request_struct_class)
        if request_struct_class.API_VERSION >= _FIRST_VERSION:
            encode: Callable[[], bytes] = self._encode
            built.encode = encode
        return built

    def _encode(self) -> bytes:
        parts = [_text(self._transactional_id), _head(self._required_acks, self._timeout, len(self._topics))]
        for topic, partitions in self._topics:
            parts += (_text(topic), _count(len(partitions)))
            for number, batch in partitions:
                parts += (_partition(number, len(batch)), batch)
        return b"".join(parts)


aiokafka.producer.sender.ProduceRequest = LeanProduceRequest
