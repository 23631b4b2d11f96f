"""Queue names as Kafka topic names, and back: what every service that touches a queue has to agree on.

A topic's name is `queue.` and the queue name's UTF-8 bytes, of which `A-Z a-z 0-9 .` stay and every other one
becomes `-` and two lower-case hex digits. Where that would be longer than Kafka allows, it ends in a digest
of the name instead, behind `--`, which no encoding contains; such a topic does not give its name back.
"""

import re
import zlib
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from urllib.parse import unquote_to_bytes

from streams.domain.queue_name import validate_queue_name

TOPIC_PREFIX = "queue."
MAX_TOPIC_LENGTH = 249
"""The longest topic name that Kafka takes, in characters (inclusive)."""

_KEPT_OF_LONG = 150
_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789."
_CODE = tuple(chr(byte) if byte in _PLAIN else f"-{byte:02x}" for byte in range(256))
_ENCODED = re.compile(r"(?:[A-Za-z0-9.]|-[0-9a-f]{2})+")
_ESCAPE = re.compile(rb"-([0-9a-f]{2})")
# The cut of a long encoding may fall within an escape.
_LONG = re.compile(
    rf"(?=.{{{_KEPT_OF_LONG}}}--[0-9a-f]{{64}}\Z)(?:[A-Za-z0-9.]|-[0-9a-f]{{2}})+(?:-[0-9a-f]?)?--[0-9a-f]{{64}}"
)


@lru_cache(maxsize=16384)
def topic_of(queue_name: str) -> str:
    """The topic that holds the queue.

    Raises:
        InvalidQueueName: the name is not 1 to 1,024 bytes of UTF-8.
    """
    raw = validate_queue_name(queue_name).encode()
    encoded = "".join([_CODE[byte] for byte in raw])
    if len(TOPIC_PREFIX) + len(encoded) <= MAX_TOPIC_LENGTH:
        return TOPIC_PREFIX + encoded
    return f"{TOPIC_PREFIX}{encoded[:_KEPT_OF_LONG]}--{sha256(raw).hexdigest()}"


def queue_of(topic: str) -> str | None:
    """The queue whose topic this is, or None: not a queue's topic, or one with a digest for a long name.

    Exactly the inverse of `topic_of`: a topic that encodes a name in any other way belongs to no queue, so
    that no two topics share a name.
    """
    encoded = topic[len(TOPIC_PREFIX) :]
    if not topic.startswith(TOPIC_PREFIX) or _ENCODED.fullmatch(encoded) is None:
        return None
    raw = _ESCAPE.sub(lambda escape: bytes.fromhex(escape[1].decode()), encoded.encode())
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        return None
    return name if topic_of(name) == topic else None


def names_in(topics: Iterable[str]) -> list[str]:
    """The names of queues as their topics give them, of many topics at once: five times as fast as `queue_of`.

    To look for a name, not to rely on it: whether each encodes its name as `topic_of` does is not asked. Without those
    that have a digest or a line break in it.
    """
    encoded = [topic[len(TOPIC_PREFIX) :] for topic in topics if topic.startswith(TOPIC_PREFIX)]
    text = "\n".join(name for name in encoded if name and "--" not in name and "-0a" not in name)
    return unquote_to_bytes(text.replace("-", "%")).decode(errors="replace").split("\n") if text else []


def is_queue_topic(topic: str) -> bool:
    """Whether this is the topic of a queue, be the name readable from it or only its digest."""
    if queue_of(topic) is not None:
        return True
    return topic.startswith(TOPIC_PREFIX) and _LONG.fullmatch(topic, len(TOPIC_PREFIX)) is not None


def drains_partition(topic: str, partition: int, count: int) -> int:
    """Which of the `count` partitions of the drains topic stands for a partition of the queue topic.

    Neighbours stand side by side: the workers share the partitions of one queue evenly.
    """
    return (zlib.crc32(topic.encode()) + partition) % count
