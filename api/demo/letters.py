"""Messages for the demo: those that CPython tests its email package with, and many that it writes itself."""

import base64
import importlib.util
import random
from collections.abc import Callable, Iterator
from pathlib import Path

_WORDS = (
    *("transfer", "queue", "broker", "offset", "claim", "drain", "ledger", "message", "mail", "route", "tenant"),
    *("campaign", "schedule", "window", "attempt", "restore", "receipt", "bounce", "spool", "relay", "header"),
    *("envelope", "boundary", "charset", "folding", "garden", "harbour", "lantern", "meadow"),
)
# As UTF-8: German, Greek, Japanese, Russian, an emoji outside the BMP, a combining accent, right-to-left.
_UNICODE = (
    "Gr\u00fc\u00dfe aus K\u00f6ln",
    "\u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1",
    "\u304a\u4e16\u8a71\u306b\u306a\u3063\u3066\u304a\u308a\u307e\u3059",
    "\u0414\u043e\u0431\u0440\u044b\u0439 \u0434\u0435\u043d\u044c",
    "\U0001f4ec",
    "e\u0301te\u0301",
    "\u05e9\u05dc\u05d5\u05dd",
)

SMALLEST_BYTES = 300
LARGEST_BYTES = 200_000
_SIZES = ((0.86, SMALLEST_BYTES, 6_000), (0.12, 6_000, 40_000), (0.02, 40_000, LARGEST_BYTES))
"""Share, from, to: most mail is small."""


def python_test_mails() -> list[bytes]:
    """The test mails of CPython's own email package, in the order of their names; none where they are not installed.

    Many distributions leave the `test` package out.
    """
    try:
        spec = importlib.util.find_spec("test.test_email")
    except ImportError:
        return []
    folders = spec.submodule_search_locations if spec is not None else None
    return [path.read_bytes() for folder in folders or () for path in sorted(Path(folder, "data").glob("*.txt"))]


def written_letters(count: int, *, seed: int = 1) -> Iterator[bytes]:
    """As many messages, of all kinds in turn; the same ones for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    for number in range(count):
        yield _KINDS[number % len(_KINDS)](rng, number, _size(rng))


def _size(rng: random.Random) -> int:
    (share,) = rng.choices(_SIZES, [share for share, _, _ in _SIZES])
    return rng.randint(share[1], share[2])


def _head(rng: random.Random, number: int, *more: str, end: str = "\r\n") -> bytes:
    lines = [
        f"Received: from mx{rng.randrange(9)}.example.net (192.0.2.{rng.randrange(256)}) by mail.example.com",
        f"Message-ID: <{number}.{rng.getrandbits(64):x}@example.com>",
        f"From: {rng.choice(_WORDS)}@example.com",
        f"Subject: {' '.join(rng.choices(_WORDS, k=5))}",
        "Date: Mon, 23 Nov 2026 10:00:00 +0000",
        *more,
    ]
    return (end.join(lines) + end + end).encode()


def _lines(rng: random.Random, size: int, end: str) -> bytes:
    """Text of about `size` bytes, with the lines that mail software stumbles over."""
    text = [".", "..", "From here on", ">From there", " ", "\t"]
    length = 0
    while length < size:
        text.append(" ".join(rng.choices(_WORDS, k=rng.randint(1, 12))))
        length += len(text[-1]) + len(end)
    return (end.join(text) + end).encode()


def _plain_crlf(rng: random.Random, number: int, size: int) -> bytes:
    return _head(rng, number) + _lines(rng, size, "\r\n")


def _plain_bare_lf(rng: random.Random, number: int, size: int) -> bytes:
    return _head(rng, number, end="\n") + _lines(rng, size, "\n")


def _mixed_line_ends(rng: random.Random, number: int, size: int) -> bytes:
    return _head(rng, number) + _lines(rng, size // 2, "\r\n") + _lines(rng, size // 2, "\n") + b"bare\rreturns\r"


def _empty_body(rng: random.Random, number: int, _: int) -> bytes:
    return _head(rng, number)


def _utf8(rng: random.Random, number: int, size: int) -> bytes:
    text = " ".join(rng.choices(_UNICODE, k=max(1, size // 24)))
    subject = f"X-Raw-Subject: {rng.choice(_UNICODE)}"
    return _head(rng, number, subject, "Content-Type: text/plain; charset=utf-8") + text.encode()


def _eight_bit(rng: random.Random, number: int, size: int) -> bytes:
    return _head(rng, number, "Content-Type: text/plain; charset=unknown-8bit") + rng.randbytes(size)


def _nul_bytes(rng: random.Random, number: int, size: int) -> bytes:
    text = _lines(rng, size, "\r\n")
    middle = len(text) // 2
    return _head(rng, number) + b"\x00" + text[:middle] + b"\x00\x00\r\n\x00" + text[middle:] + b"\x00"


def _long_headers(rng: random.Random, number: int, size: int) -> bytes:
    unfolded = "X-Unfolded: " + "v" * min(size, 12_000)
    folded = "X-Folded: " + "\r\n\t".join(" ".join(rng.choices(_WORDS, k=8)) for _ in range(40))
    many = [f"X-Hop-{hop}: {rng.getrandbits(128):032x}" for hop in range(30)]
    return _head(rng, number, unfolded, folded, *many) + _lines(rng, SMALLEST_BYTES, "\r\n")


def _multipart(rng: random.Random, number: int, size: int) -> bytes:
    boundary = f"=_{rng.getrandbits(64):016x}"
    attachment = base64.encodebytes(rng.randbytes(size * 5 // 8)).replace(b"\n", b"\r\n")
    parts = (
        b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + _lines(rng, size // 8, "\r\n"),
        b"Content-Type: text/html; charset=utf-8\r\n\r\n<p>" + rng.choice(_UNICODE).encode() + b"</p>\r\n",
        b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n" + attachment,
    )
    mark = b"--" + boundary.encode()
    body = b"".join(mark + b"\r\n" + part for part in parts) + mark + b"--\r\n"
    return _head(rng, number, "MIME-Version: 1.0", f'Content-Type: multipart/mixed; boundary="{boundary}"') + body


_KINDS: tuple[Callable[[random.Random, int, int], bytes], ...] = (
    _plain_crlf,
    _plain_bare_lf,
    _multipart,
    _utf8,
    _eight_bit,
    _nul_bytes,
    _mixed_line_ends,
    _long_headers,
    _plain_crlf,
    _multipart,
    _empty_body,
)
