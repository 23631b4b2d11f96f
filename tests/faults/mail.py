"""The messages of a fault run. Each is made from its number alone, so that what must be there need not be kept."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from streams.domain.topic import topic_of

XFER_SUFFIX = ".xfer.kumomta.internal"
PARTITIONS = 3
SOURCES = 3
HOMES = 8
_HOPELESS_EVERY = 97
_LAST_HOPELESS = 4_000
"""Every cancel returns these again: as many of them as do not grow the work without end."""
_FIRST_MS = 1_790_000_000_000

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it is put in."""

    number: int
    source: int
    partition: int
    home: int
    is_hopeless: bool
    """It carries no saved information: a cancel puts it back."""

    @property
    def key(self) -> bytes:
        """Its id."""
        return b"m%d" % self.number

    @property
    def timestamp(self) -> int:
        """In ms."""
        return _FIRST_MS + self.number

    @property
    def value(self) -> bytes:
        """Its bytes: 40 to about 900 of them."""
        digest = hashlib.blake2b(self.key, digest_size=32).digest()
        return b"Subject: %d\r\n\r\n" % self.number + digest * (1 + digest[0] % 28)


def message(number: int) -> Message:
    """The message with this number, from 0 on."""
    return Message(
        number=number,
        source=number % SOURCES,
        partition=number // SOURCES % PARTITIONS,
        home=number // (SOURCES * PARTITIONS) % HOMES,
        is_hopeless=number % _HOPELESS_EVERY == 0 and number < _LAST_HOPELESS,
    )


def number_of(key: bytes | None) -> int | None:
    """The number of the message with this key; None if there can be none."""
    if key is None or key[:1] != b"m" or not key[1:].isdigit():
        return None
    return int(key[1:])


class Names:
    """The queues of one run, and what their messages look like in each."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.sources = [f"http://x{number}.{run}.invalid/{XFER_SUFFIX}" for number in range(SOURCES)]
        """Xfer queues, into which messages are put: 0 has no dispatchers."""
        self.target = f"http://xt.{run}.invalid/"
        self.transferred = f"{self.target}{XFER_SUFFIX}"
        """The xfer queue that transfers bring messages to."""
        self.homes = [f"t{number}@{run}.example" for number in range(HOMES)]
        """Scheduled queues: 0 and 1 have dispatchers, and are what transfers take from."""
        self.source_topics = [topic_of(name) for name in self.sources]
        self.home_topics = [topic_of(name) for name in self.homes]
        self.transferred_topic = topic_of(self.transferred)
        self.topics = [*self.source_topics, *self.home_topics, self.transferred_topic]

    def headers(self, item: Message) -> Headers:
        """As it is put in."""
        return self._headers(orjson.dumps(self._injected(item)))

    def _headers(self, envelope: bytes) -> Headers:
        return (("a", b"1"), ("envelope", envelope), ("a", b"\xff"))

    def _injected(self, item: Message) -> dict[str, Any]:
        meta: dict[str, Any] = {"queue": self.sources[item.source], "n": 2**62 + item.number}
        if not item.is_hopeless:
            meta["xfer_queue_info"] = {"tenant": f"t{item.home}", "num_attempts": item.number % 5}
        return {
            "sender": "s@example.com",
            "recipient": f"u{item.number}@{self.run}.EXAMPLE",
            "meta": meta,
            "num_attempts": 7,
            "created": "2026-11-20T10:00:00Z",
            "due": None,
            "schedule": None,
        }

    def problem(self, item: Message, topic: str, value: bytes | None, headers: Headers, timestamp: int) -> str | None:
        """What is wrong with a record of the message in a topic, if anything is."""
        if value != item.value or timestamp != item.timestamp:
            return "its bytes or its timestamp are not what they were"
        if len(headers) != 3 or (headers[0], headers[1][0], headers[2]) != (("a", b"1"), "envelope", ("a", b"\xff")):
            return f"its headers are {headers}"
        envelope = orjson.loads(headers[1][1])
        expected = self._injected(item)
        if topic == self.source_topics[item.source]:
            return None if headers[1][1] == self.headers(item)[1][1] else "its envelope is not what it was"
        if item.is_hopeless:
            return "it has no saved information, and yet it left its queue"
        saved = expected["meta"].pop("xfer_queue_info")
        expected["num_attempts"] = saved["num_attempts"]
        due = envelope.pop("due")
        del expected["due"]
        if topic == self.home_topics[item.home]:
            del expected["meta"]["queue"]
            expected["meta"]["tenant"] = saved["tenant"]
            if not _is_time(due):
                return f"it is due {due!r}"
        elif topic == self.transferred_topic:
            expected["meta"]["queue"] = self.transferred
            info = envelope["meta"].pop("xfer_queue_info", {})
            if not _is_time(info.pop("due", None)) or info != saved or due is not None:
                return f"its saved information is {info}, due {due!r}"
        else:
            return "it is in a queue that is not its own"
        return None if envelope == expected else f"its envelope is {envelope}, not {expected}"


@lru_cache(4096)
def _is_time(text: object) -> bool:
    return isinstance(text, str) and text.startswith("20") and text.endswith("Z")
