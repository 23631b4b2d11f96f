"""The demo's mail: messages with their envelopes, spread over the scheduled queues."""

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from api.demo.queues import ScheduledQueue
from streams.domain.timestamp import format_time

Headers = Sequence[tuple[str, bytes | None]]
ENVELOPE = "envelope"


@dataclass(frozen=True, slots=True)
class Mail:
    """One message as it is put into its scheduled queue; `timestamp` in ms."""

    id: bytes
    queue: str
    value: bytes
    envelope: dict[str, Any]
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp: int


def fingerprint(key: bytes | None, value: bytes | None, timestamp: int, headers: Headers) -> str:
    """What must never change, as a digest: key, bytes, time, and all headers in order but the envelope's content."""
    digest = hashlib.sha256()
    for part in (key, value, b"%d" % timestamp):
        _feed(digest, part)
    for name, content in headers:
        _feed(digest, name.encode("utf-8", "surrogateescape"))
        _feed(digest, b"" if name == ENVELOPE else content)
    return digest.hexdigest()


def _feed(digest: "hashlib._Hash", part: bytes | None) -> None:
    # With the length before it, so that nothing can slip from one part into the next.
    digest.update(b"-" if part is None else b"%d:" % len(part))
    digest.update(part or b"")


def make_corpus(
    letters: Iterable[bytes], queues: Sequence[ScheduledQueue], now: datetime, *, seed: int = 1
) -> list[Mail]:
    """The letters as mail: each gets an envelope, odd metadata and headers, and goes into one of the queues.

    Every queue gets some, as long as there are as many letters as queues.
    """
    rng = random.Random(seed)  # noqa: S311 - no secret
    places = [*queues, *(queue for queue in queues for _ in range(queue.share - 1))]
    return [_mail(rng, number, letter, places[number % len(places)], now) for number, letter in enumerate(letters)]


def _mail(rng: random.Random, number: int, letter: bytes, queue: ScheduledQueue, now: datetime) -> Mail:
    created = now - timedelta(seconds=rng.randrange(1, 4 * 24 * 3600), microseconds=rng.choice((0, 123456)))
    recipient = f"{rng.choice(('info', 'a.b', 'o+tag', 'x@y'))}@{queue.domain}".replace("x@y", '"x@y"')
    envelope: dict[str, Any] = {
        "sender": rng.choice(("", "newsletter@example.com", "bounce+17@example.org")),
        "recipient": rng.choice((recipient, [recipient], [recipient, f"second@{queue.domain}"])),
        "meta": _metadata(rng, number, queue),
        "num_attempts": rng.choice((0, 1, 2, 7, 300, 65535)),
        "created": format_time(created),
        "due": rng.choice((None, format_time(now + timedelta(minutes=rng.randrange(-60, 600))))),
        "schedule": None if queue.schedule is None else dict(queue.schedule),
    }
    if number % 7 == 0:
        envelope["x-unknown"] = {"kept": [1, 2.5, None, "\u00e9"]}
    raw = json.dumps(envelope, ensure_ascii=bool(number % 2)).encode()
    headers: list[tuple[str, bytes | None]] = [("x-seen", b"1"), ("x-seen", b"2"), ("x-empty", b"")]
    if number % 3 == 0:
        headers += [("x-binary", rng.randbytes(12)), ("\u00fcber", "gr\u00f6\u00dfe".encode())]
    # The envelope stands first, in the middle or last; it has to stay there.
    headers.insert(rng.randint(0, len(headers)), (ENVELOPE, raw))
    return Mail(
        id=b"%08x%024x" % (number, rng.getrandbits(96)),
        queue=queue.name,
        value=letter,
        envelope=envelope,
        headers=tuple(headers),
        timestamp=int(created.timestamp() * 1000),
    )


def _metadata(rng: random.Random, number: int, queue: ScheduledQueue) -> dict[str, Any]:
    odd: tuple[dict[str, Any], ...] = (
        {},
        {"largest": 2**63 - 1, "smallest": -(2**63), "unsigned": 2**64 - 1, "beyond_double": 2**53 + 1},
        {"tenth": 0.1, "tiny": 5e-324, "huge": 1.7976931348623157e308, "whole": 2.0, "minus_zero": -0.0},
        {"nested": {"list": [[], {}, [None, True, False, {"a": {"b": {"c": [1]}}}]], "": "empty name"}},
        {"\u540d\u524d": "\u5c71\u7530", "emoji": "\U0001f4ec", "line\nbreak": "tab\t\u2028\x7f\x00"},
        {"text": "x" * rng.randrange(2_000)},
    )
    usual = {"reception_protocol": "ESMTP", "received_from": f"192.0.2.{rng.randrange(256)}:{rng.randrange(65536)}"}
    return {**usual, **queue.meta, **odd[number % len(odd)]}
