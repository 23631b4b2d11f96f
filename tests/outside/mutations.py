"""What an adversary makes of valid JSON: structure that is nearly right, and bytes that nearly are."""

from random import Random
from typing import Any

import orjson

XFER_QUEUE = "http://mx2.example.com/.xfer.kumomta.internal"
CANCEL: dict[str, Any] = {
    "type": "xfer.cancel",
    "queue_name": XFER_QUEUE,
    "reason": "mx2 is full",
    "id": "cancel-1",
    "requested_at": "2026-11-24T10:00:00Z",
    "requested_by": "ops",
}
START: dict[str, Any] = {
    "type": "xfer.start",
    "target": "http://mx2.example.com/",
    "reason": "maintenance",
    "tenant": "t",
    "queue_names": ["t@example.com", "example.net"],
}
SCHEDULE = {
    "dow": "Mon,Wed",
    "tz": "Europe/Berlin",
    "start": "09:00:00",
    "end": "17:00:00",
    "expires": "3000-01-01T00:00:00Z",
}
ENVELOPE: dict[str, Any] = {
    "sender": "s@example.com",
    "recipient": ["u@Example.COM", "v@example.net"],
    "meta": {
        "queue": XFER_QUEUE,
        "n": 2**63,
        "x": [1.5e300, None, True, {"a": []}],
        "xfer_queue_info": {
            "queue": "c:t@example.com!relay.example",
            "routing_domain": "relay.example",
            "tenant": "t",
            "campaign": "c",
            "schedule": SCHEDULE,
            "num_attempts": 3,
            "due": "2026-11-24T10:00:00.123+05:45",
        },
    },
    "num_attempts": 65535,
    "created": "2026-11-20T10:00:00Z",
    "due": None,
    "schedule": SCHEDULE,
}
BASES = {"cancel": CANCEL, "start": START, "envelope": ENVELOPE}

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 65535, 65536, 2**63, 2**64 - 1, 1e308, 5e-324, -0.0),
    *("", "\0", "\r\n", "\x1b[2J", "\u2028", "\u202e", "\ufeff", "\U0010ffff", "a" * 1025, "\xe9" * 513, "%s{topic}"),
    *("..", "../../etc/passwd", "%2e%2e", "@", "!", "a@!b", ":@", "x.xfer.kumomta.internal", XFER_QUEUE, "A" * 5000),
    *("0000-00-00T00:00:00Z", "9999-12-31T23:59:60Z", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00+23:59"),
    *("http://[::1", "http://\u00e4.example", "http://a@b:c@d/", "javascript:alert(1)", "http://x\t\n/", "HTTP:\\\\x"),
    *("Mon,,Tue", "mOn", "../etc/localtime", "Factory", "UTC", "posixrules", "Mon" * 100),
    *([], {}, [[]], [{}], {"": ""}, [None], ["a"] * 50, {"a": {"a": {"a": {}}}}, [[[[[[]]]]]]),
)  # fmt: skip
_TOKENS = (
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"null", b"true", b"NaN", b"Infinity", b"-", b"-0", b"1e999"),
    *(b"9" * 400, b"0." + b"1" * 400, b"\\u0000", b"\\ud800", b"\\udc00\\ud800", b"\\uD83D\\uDE00", b"\\x", b"\\u12"),
    *(b"\x00", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\r\n"),
    *(b"[" * 600, b'{"a":' * 300, b"/*", b"//", b"'", b"+1", b".5", b"1.", b"01", b"\x1f", b"\x7f", b" " * 100),
    *(b'"id":"a b",', b'"type":"xfer.start",', b'"meta":{},', b'"xfer_queue_info":null,', b'"queue":"x",'),
)  # fmt: skip


def mutated(random: Random, base: dict[str, Any]) -> bytes:
    """One variation of a valid object: of its structure, of its bytes, or of both."""
    how = random.random()
    value: Any = _copy(base)
    if how < 0.85:
        for _ in range(random.choice((1, 1, 1, 2, 5))):
            value = _restructured(random, value)
    raw = orjson.dumps(value)
    if how > 0.7:
        raw = rotten(random, raw)
    return raw


def rotten(random: Random, raw: bytes) -> bytes:
    """Some bytes changed, left out, doubled, or put in."""
    data = bytearray(raw)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((1, 1, 2, 8, 64)))
        match random.randrange(6):
            case 0:
                data[at:end] = random.randbytes(end - at)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = data[at:end]
            case 3:
                data[at:at] = random.choice(_TOKENS)
            case 4:
                data[at:end] = random.choice(_TOKENS)
            case _:
                if end > at:
                    data[at] ^= 1 << random.randrange(8)
    return bytes(data[: random.randrange(len(data) + 1)] if random.random() < 0.03 else data)


def _restructured(random: Random, value: Any) -> Any:
    """Another value at one place in it, a place more, or one less."""
    if type(value) is dict and value and random.random() < 0.9:
        inner = [name for name, item in value.items() if type(item) is dict and item]
        if inner and random.random() < 0.6:
            name = random.choice(inner)
            value[name] = _restructured(random, value[name])
            return value
        name = random.choice(list(value))
        match random.randrange(8):
            case 0:
                del value[name]
            case 1:
                value[random.choice(_NAMES)] = _copy(random.choice(_VALUES))
            case 2:
                value[name + random.choice(("\0", " ", "s", "\u0301"))] = value.pop(name)
            case 3 | 4 | 5:
                value[name] = _restructured(random, value[name])
            case _:
                value[name] = _copy(random.choice(_VALUES))
        return value
    if type(value) is list and value and random.random() < 0.7:
        at = random.randrange(len(value))
        value[at] = _restructured(random, value[at])
        return value
    if type(value) is str and random.random() < 0.5:
        at = random.randrange(len(value) + 1)
        return value[:at] + random.choice(("\0", "\n", "@", "!", ":", "\u202e", "\xe9", "Z", "9", "")) + value[at + 1 :]
    return _copy(random.choice(_VALUES))


_NAMES = (
    *("type", "id", "queue_name", "reason", "target", "queue_names", "tenant", "campaign", "domain", "routing_domain"),
    *("meta", "queue", "xfer_queue_info", "schedule", "due", "num_attempts", "recipient", "sender", "created", ""),
    *("dow", "tz", "start", "end", "first_attempt", "expires", "__proto__", "reception_protocol"),
)  # fmt: skip


def _copy(value: Any) -> Any:
    if type(value) is dict:
        return {name: _copy(item) for name, item in value.items()}
    return [_copy(item) for item in value] if type(value) is list else value
