"""Decompression with a bound: a record batch of a megabyte may unpack to thirty gigabytes.

Kafka limits what a batch has packed (`max.message.bytes`), not what comes out of it, and aiokafka unpacks all of it
at once. So a client that may write to a queue could end every worker that reads it, one after the other.
"""

import struct
import zlib
from collections.abc import Callable

import cramjam
from aiokafka.codec import lz4_decode, snappy_decode, zstd_decode

MAX_UNPACKED_BYTES = 32 << 20
"""What a batch may unpack to (inclusive), or `MAX_RATIO` times its packed size, if that is more."""

MAX_RATIO = 16

_GZIP = 16 + zlib.MAX_WBITS
_LZ4_RATIO = 255
_XERIAL_HEADER = 16
_ZSTD_MAGIC = 0xFD2FB528
_ZSTD_SKIPPABLE = 0x184D2A50
_ZSTD_BLOCK = 128 << 10
USERS = ("aiokafka.record.default_records", "aiokafka.record._crecords.default_records")
"""The modules of aiokafka that unpack batches."""
_FULL = "failed to write whole buffer"


class TooLarge(Exception):
    """A batch would unpack to more than it may."""


class _Meter:
    """How many bytes have been unpacked so far, by anybody."""

    bytes = 0


def unpacked_bytes() -> int:
    """How many bytes have been unpacked since the start of this process."""
    return _Meter.bytes


def limit_of(packed: bytes) -> int:
    """To how many bytes this may unpack (inclusive)."""
    return max(MAX_UNPACKED_BYTES, MAX_RATIO * len(packed))


def unpack_gzip(packed: bytes) -> bytes:
    """All members of gzip data.

    Raises:
        TooLarge: it is more than it may be.
    """
    limit = limit_of(packed)
    parts: list[bytes] = []
    size = 0
    rest = bytes(packed)
    while rest:
        member = zlib.decompressobj(_GZIP)
        parts.append(member.decompress(rest, limit + 1 - size))
        size += len(parts[-1])
        if size > limit:
            raise TooLarge
        if not member.eof:
            raise EOFError("the gzip data ends before its end")
        rest = member.unused_data
    return parts[0] if len(parts) == 1 else b"".join(parts)


def unpack_zstd(packed: bytes) -> bytes:
    """All frames of zstd data. Raises as `unpack_gzip`."""
    limit = limit_of(packed)
    if _zstd_bound(packed) <= limit:
        return bytes(zstd_decode(packed))
    return _into(cramjam.zstd.decompress_into, packed, limit)


def unpack_lz4(packed: bytes) -> bytes:
    """All frames of lz4 data. Raises as `unpack_gzip`."""
    limit = limit_of(packed)
    if _LZ4_RATIO * len(packed) <= limit:
        return bytes(lz4_decode(packed))
    return _into(cramjam.lz4.decompress_into, packed, limit)


def unpack_snappy(packed: bytes) -> bytes:
    """Snappy data, plain or in the blocks of its Java library. Raises as `unpack_gzip`."""
    if _snappy_size(packed) > limit_of(packed):
        raise TooLarge
    return bytes(snappy_decode(packed))


def _into(unpack: Callable[[bytes, bytearray], int], packed: bytes, limit: int) -> bytes:
    """Unpack into a buffer, a larger one each time, as a large one costs more than most data does."""
    size = 8 * len(packed)
    while True:
        size = min(size, limit)
        buffer = bytearray(size)
        try:
            count = unpack(packed, buffer)
        except cramjam.DecompressionError as error:
            if _FULL not in str(error):
                raise
            if size == limit:
                raise TooLarge from None
            size *= 8
        else:
            with memoryview(buffer) as view:
                return bytes(view[:count])


def _zstd_bound(packed: bytes) -> int:
    """What the frames' blocks can unpack to at most (RFC 8878, 3.1.1); nothing of what can't be followed."""
    at, bound = 0, 0
    try:
        while at < len(packed):
            magic, descriptor = struct.unpack_from("<IB", packed, at)
            if magic & ~0xF == _ZSTD_SKIPPABLE:
                at += 8 + int(struct.unpack_from("<I", packed, at + 4)[0])
                continue
            if magic != _ZSTD_MAGIC:
                return bound
            is_single = descriptor >> 5 & 1
            at += 5 + (0 if is_single else 1) + (0, 1, 2, 4)[descriptor & 3]
            at += (is_single, 2, 4, 8)[descriptor >> 6]
            is_last = False
            while not is_last:
                (header,) = struct.unpack("<I", packed[at : at + 3] + b"\0")
                is_last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
                bound += _ZSTD_BLOCK if kind == 2 else size
                at += 3 + (1 if kind == 1 else size)
            at += 4 if descriptor >> 2 & 1 else 0
    except struct.error:
        pass
    return bound


def _snappy_size(packed: bytes) -> int:
    """What the data says that it unpacks to; nothing of what can't be followed."""
    if packed[1:7] != b"SNAPPY":
        return int(cramjam.snappy.decompress_raw_len(packed))
    at, size = _XERIAL_HEADER, 0
    while at + 4 <= len(packed):
        (length,) = struct.unpack_from(">i", packed, at)
        if length <= 0:
            break
        size += int(cramjam.snappy.decompress_raw_len(packed[at + 4 : at + 4 + length]))
        at += 4 + length
    return size


def _metered(unpack: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    def metered(packed: bytes) -> bytes:
        unpacked = unpack(bytes(packed))
        _Meter.bytes += len(unpacked)
        return unpacked

    return metered


DECODERS = {
    "gzip_decode": _metered(unpack_gzip),
    "snappy_decode": _metered(unpack_snappy),
    "lz4_decode": _metered(unpack_lz4),
    "zstd_decode": _metered(unpack_zstd),
}
"""By the names that `USERS` have them under."""
