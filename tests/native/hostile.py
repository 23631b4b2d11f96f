"""Envelopes and fetches as nobody should write them, for comparing the compiled drain with Python's.

The generators take a source of chance with the interface of `random.Random`: hypothesis' own, or a plain one.
"""

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

import google_crc32c
import orjson

from streams.kafka.wire.batches import ENCODERS, PieceBuilder
from tests.fakes.log import FakeRecord

XFER_QUEUE = "http://bogus.example/.xfer.kumomta.internal"
_TEXTS = (
    *("", "a", "x@y.example", "A@B@C.Example", "\xfc@\xf6.example", "t\n1", 'q"uote', "back\\slash", "\x01", "\x7f"),
    *("\u2028", "x" * 300, "http://q.xfer.kumomta.internal", "!r@d", "a@", "@", "a@!x", "q", XFER_QUEUE, "\U0001f600"),
    *("D" * 1025, "\u0130@\u0130.example", "a@\u212a.example", "/", "\x00", '"a b"@c.example', "spring:t1@d.example"),
)
_TIMES = (
    *("2026-11-20T10:00:00Z", "2026-11-20T10:00:00.5Z", "2026-11-20T10:00:00.123456789+02:00", "2026-02-29T00:00:00Z"),
    *("2024-02-29T23:59:60Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "2026-11-20 10:00:00Z"),
    *("2026-11-20t10:00:00z", "1969-12-31T23:59:59.999999Z", "2026-11-20T10:00:00-00:00", "2026-11-20T24:00:00Z"),
    *(
        "2026-1-20T10:00:00Z",
        "",
        "1500-03-01T00:00:00.000001+23:59",
        "2000-02-29T12:34:56.700Z",
        "1900-02-29T12:34:56Z",
    ),
    *("2026-11-20T10:00:00.000000Z", "0002-01-01T00:00:00+23:59", "9998-12-31T23:59:59-23:59", "2026-12-31T00:00:00Z"),
)
_SCHEDULES: tuple[Any, ...] = (
    *(None, {}, {"first_attempt": "2030-01-01T00:00:00Z"}, {"expires": "2020-01-01T00:00:00Z"}, {"x": 1}, [], "s", 5),
    {"dow": "mon,TUE", "tz": "Europe/Berlin", "start": "9:00", "end": "17:00"},
    {"dow": "mon", "tz": "Nowhere", "start": "9", "end": "1"},
    {"first_attempt": 1.5},
)
_NUMBERS = (0, 1, -1, 65535, 65536, 10**17, 10**18, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1)
_FLOATS = (0.0, -0.0, 1e300, 1.5, 1e16, 1e15, 1e-5, 1e-6, 0.1, 123456789.125, 5e-324, 1e22, 1e21)
_PIECES = (
    *(b" ", b"\\u0041", b'"queue":"x",', b"\\n", b"1", b"}", b"{", b",", b"\xff", b'"meta":{},', b"-0", b"\\u001f"),
    *(
        b"\\u000a",
        b"\\/",
        b"\\ud83d\\ude00",
        b"\\ud83d",
        b"1e400",
        b"NaN",
        b"\t",
        b"[",
        b"0",
        b".5",
        b"e5",
        b"\xef\xbb\xbf",
    ),
)
_WRITERS: tuple[Callable[[Any], bytes], ...] = (
    lambda value: json.dumps(value).encode(),
    lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"),
    lambda value: json.dumps(value, indent=2, sort_keys=True).encode(),
    lambda value: json.dumps(value, separators=(",", ":")).encode(),
)


class Hostile:
    """Makes envelopes, records and fetches, of this chance."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def _is(self, percent: int) -> bool:
        return self._chance.randrange(100) < percent

    def _any(self, depth: int = 0) -> Any:
        match self._chance.randrange(8):
            case 0:
                return self._chance.choice(_NUMBERS)
            case 1:
                return self._chance.choice(_FLOATS)
            case 2:
                return self._chance.choice((None, True, False))
            case 3 if depth < 4:
                return [self._any(depth + 1) for _ in range(self._chance.randrange(3))]
            case 4 if depth < 4:
                return {self._chance.choice(_TEXTS): self._any(depth + 1) for _ in range(self._chance.randrange(4))}
            case 5:
                return self._chance.choice(_TIMES)
        return self._chance.choice(_TEXTS)

    def _mostly(self, usual: Any, percent: int) -> Any:
        return usual if self._is(percent) else self._any()

    def _object(self, *fields: tuple[str, int, Callable[[], Any]]) -> dict[str, Any]:
        """Of these fields, each there in so many of a hundred cases; sometimes in another order."""
        found = [(name, make()) for name, percent, make in fields if self._is(percent)]
        if self._is(25):
            self._chance.shuffle(found)
        return dict(found)

    def envelope(self) -> Any:
        """The value of one; mostly what a drain can move."""
        pick, mostly = self._chance.choice, self._mostly
        part = lambda: mostly(pick(("spring", "t1", "a:b@d.example", None)), 85)  # noqa: E731
        text = lambda: mostly(pick(_TEXTS), 80)  # noqa: E731
        info = self._object(
            *((name, 40, part) for name in ("queue", "routing_domain", "tenant", "campaign")),
            ("num_attempts", 70, lambda: mostly(pick((0, 2, 65535)), 92)),
            ("due", 50, lambda: mostly(pick((*_TIMES[:3], None)), 85)),
            ("schedule", 30, lambda: pick(_SCHEDULES)),
            ("other", 20, self._any),
        )
        names = ("queue", "tenant", "campaign", "routing_domain", "reception_protocol", "x-a", "y", "received_from")
        meta = self._object(*((name, 40, text) for name in names), ("xfer_queue_info", 92, lambda: mostly(info, 97)))
        recipients = ("someone@D.example", ["a@b.example"], ["a@b", "c@d"], '"a@b"@c.example', "\xfc@d.example")
        return self._object(
            ("sender", 99, lambda: mostly(pick(_TEXTS), 96)),
            ("recipient", 99, lambda: mostly(pick(recipients), 90)),
            ("meta", 99, lambda: mostly(meta, 99)),
            ("num_attempts", 99, lambda: mostly(pick((0, 3, 65535)), 97)),
            ("created", 99, lambda: pick(_TIMES[:3]) if self._is(80) else mostly(pick(_TIMES), 95)),
            ("due", 70, lambda: mostly(pick((None, _TIMES[0])), 93)),
            ("schedule", 50, lambda: pick(_SCHEDULES)),
            ("more", 30, self._any),
        )

    def written(self) -> bytes:
        """An envelope's bytes, by one encoder or another; some are broken."""
        value = self.envelope()
        if self._is(40):
            try:
                raw = orjson.dumps(value)
            except TypeError:  # a number that is too large
                raw = json.dumps(value).encode()
        else:
            raw = self._chance.choice(_WRITERS)(value)
        return self._broken(raw) if self._is(25) else raw

    def _broken(self, raw: bytes) -> bytes:
        broken = bytearray(raw)
        for _ in range(self._chance.randrange(1, 4)):
            at = self._chance.randrange(len(broken) + 1)
            match self._chance.randrange(4):
                case 0:
                    broken[at : at + 1] = bytes([self._chance.randrange(256)])
                case 1:
                    del broken[at : at + 1]
                case 2:
                    broken[at:at] = self._chance.choice(_PIECES)
                case _:
                    broken[at:at] = broken[at : at + 20]
        return bytes(broken)

    def headers(self) -> list[tuple[str, bytes | None]]:
        """Of a record: mostly one envelope among them."""
        found: list[tuple[str, bytes | None]] = [("envelope", self.written())] if self._is(97) else []
        if self._is(2):
            found.append(("envelope", self._chance.choice((None, b"{}"))))
        for _ in range(self._chance.randrange(3)):
            other = (
                self._chance.choice(("received", "Envelope", "\xfc", "")),
                self._chance.choice((None, b"", b"x" * 20)),
            )
            found.insert(self._chance.randrange(len(found) + 1), other)
        return found

    def record(self, offset: int) -> FakeRecord:
        """A whole one."""
        keys = (None, b"", b"id", b"\xff", '\xfc"\\\n\x01'.encode(), b"%016x" % offset)
        times = (0, 1_700_000_000_000, 1_700_000_000_000 + self._chance.randrange(10**6), 2**40)
        return FakeRecord(
            partition=1,
            offset=offset,
            timestamp=self._chance.choice(times),
            key=self._chance.choice(keys),
            value=self._chance.choice((None, b"", b"Subject: =?utf-8?q?a=20b?=\r\n\r\nbody", b"body" * 100)),
            headers=tuple(self.headers()),  # type: ignore[arg-type]  # null is a value that a header may have
        )

    def fetch(self) -> tuple[bytes, list[tuple[int, int]]]:
        """What a fetch brings, of batches of which some are broken with their checksums repaired; what was aborted."""
        data, offset, aborted = b"", 0, []
        for _ in range(self._chance.randrange(1, 6)):
            producer = self._chance.randrange(3)
            if self._is(20):
                aborted.append((producer, offset + self._chance.randrange(3)))
            count = self._chance.randrange(1, 5)
            data += self._batch(offset, count, producer)
            offset += count + self._chance.randrange(2)
        cut = self._chance.randrange(len(data)) if self._is(15) else len(data)
        return data[:cut], aborted

    def _batch(self, base: int, count: int, producer: int) -> bytes:
        is_control = self._is(15)
        builder = PieceBuilder(1 << 20, self._chance.choice((0, 0, 0, 0, *ENCODERS)), self._chance.randrange(2))
        for number in range(1 if is_control else count):
            record = self.record(base + number)
            key = struct.pack(">hh", 0, self._chance.randrange(3)) if is_control else record.key
            offset = self._chance.choice((0, number + 7, -1)) if self._is(3) else number
            builder.append(offset, record.timestamp, key, record.value, record.headers)
        builder.set_producer_state(producer, 0, 0)
        batch = bytearray(bytes(builder.build()))
        struct.pack_into(">q", batch, 0, base)
        (attributes,) = struct.unpack_from(">h", batch, 21)
        attributes |= (0x20 if is_control else 0) | (0x08 if self._is(10) else 0)
        struct.pack_into(">h", batch, 21, attributes)
        struct.pack_into(">i", batch, 23, count - 1)
        if self._is(30):
            for _ in range(self._chance.randrange(1, 4)):
                batch[self._chance.randrange(len(batch))] = self._chance.randrange(256)
        if self._is(97):
            struct.pack_into(">I", batch, 17, google_crc32c.value(bytes(batch[21:])))
        return bytes(batch)
