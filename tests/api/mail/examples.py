"""Mail as it is found, and what is to become of it; with nothing but the standard library, for any Python.

`python -m tests.api.mail.examples` prints what this Python makes of all of it, as JSON.
"""

import io
import json
from typing import NamedTuple

from api.mail.addressing import address_mail
from api.mail.files import LeftOut, NoMail, read_stream
from streams.errors import Refused

POSTMASTER = "postmaster@queue.example"


class Sent(NamedTuple):
    """A message that goes into the queue; `data` where that is not all of the file."""

    sender: str
    recipients: list[str]
    data: bytes | None = None


class Example(NamedTuple):
    """A file. What is found in it is a message, or a part of what is said about its refusal."""

    name: str
    file: bytes
    found: list[Sent | str]


def _mail(headers: str, *recipients: str, sender: str = "a@s.example", name: str = "") -> Example:
    file = headers.encode() + b"\n\nbody\n"
    return Example(name or headers, file, [Sent(sender, list(recipients))])


def _to(value: str, *recipients: str) -> Example:
    return _mail(f"From: a@s.example\nTo: {value}", *recipients)


def _refused(value: str) -> Example:
    return Example(f"To: {value}", f"From: a@s.example\nTo: {value}\n\nb\n".encode(), ["no recipient that can be read"])


def _from(value: str, sender: str) -> Example:
    return _mail(f"{value}\nTo: b@x.example", "b@x.example", sender=sender)


ADDRESSES = [
    _to("b@x.example", "b@x.example"),
    _to("B <b@x.example>", "b@x.example"),
    _to('"B, C" <b@x.example>, c@x.example', "b@x.example", "c@x.example"),
    _to("=?utf-8?q?B=2C?= <b@x.example>", "b@x.example"),
    _to("b@x.example <b@x.example>", "b@x.example"),
    _to('"c@x.example" <b@x.example>', "b@x.example"),
    _to("b@x.example (B)", "b@x.example"),
    _to("(B (or C)) b@x.example", "b@x.example"),
    _to("b@x.example (B", "b@x.example"),
    _to("b@x.example; c@x.example", "b@x.example", "c@x.example"),
    _to("b@x.example,, c@x.example,", "b@x.example", "c@x.example"),
    _to("b@x.example, b@x.example", "b@x.example"),
    _to("b@x.example,\n c@x.example,\n\td@x.example", "b@x.example", "c@x.example", "d@x.example"),
    _to("b@x.example\nTo: c@x.example", "b@x.example", "c@x.example"),
    _to("friends: b@x.example, C <c@x.example>;, d@x.example", "b@x.example", "c@x.example", "d@x.example"),
    _to("mailto:b@x.example", "b@x.example"),
    _to("b @ x . example", "b@x.example"),
    _to("<@relay.example,@other.example:b@x.example>", "b@x.example"),
    _to("Zo\u00eb <zo\u00eb@x.example>", "zo\u00eb@x.example"),
    _to("\u7528\u6237@\u4f8b\u5b50.\u4e2d\u56fd", "\u7528\u6237@\u4f8b\u5b50.\u4e2d\u56fd"),
    _to("b@xn--bcher-kva.example", "b@xn--bcher-kva.example"),
    _to('"odd user"@x.example, c@x.example', '"odd user"@x.example', "c@x.example"),
    _to('"a\\"b@c"@x.example', '"a\\"b@c"@x.example'),
    _to('"b"@x.example', '"b"@x.example'),
    _to("b..c.@x.example", "b..c.@x.example"),  # of Japanese telephones
    _to("o'brien+tag=x/y@x.example", "o'brien+tag=x/y@x.example"),
    _to("b@[192.0.2.1], c@[IPv6:2001:db8::1]", "b@[192.0.2.1]", "c@[IPv6:2001:db8::1]"),
    _to("=?utf-8?q?b=40evil.example?=@x.example", "=?utf-8?q?b=40evil.example?=@x.example"),
    # Some that are none, beside one that is.
    _to("Bob, Carol <c@x.example>", "c@x.example"),
    _to("b c@x.example, d@x.example", "d@x.example"),
    _to("b@x.example c@x.example, d@x.example", "d@x.example"),
    _to("<b@x.example> <c@x.example>, d@x.example", "d@x.example"),
    _to("b@x.example:25, d@x.example", "d@x.example"),
    # None at all.
    *map(_refused, ("", "Bob", "undisclosed-recipients:;", ":" * 3_000, "(" * 3_000, "<" * 3_000, '"b@x.example')),
    *map(_refused, ("b c@x.example", "b@c@x.example", "<<b@x.example>>", "'b@x.example'", "b@", "@x.example", "b@.")),
    *map(_refused, ("b@x(c)y.example", "b@x.example.", "b@x.example>", "<b@x.example", "B <>", '""b@x.example')),
    *map(_refused, ("b@x\x00", "b\u202e@x.example", "b\u00a0@x.example", "b@x\u200b.example", "\ufffd@x.example")),
    *map(_refused, ("=?utf-8?q?b=40x=2Eexample?=", "b@[", "b@[]", "..@x.example")),
    Example("bytes that are not UTF-8", b"To: \xff\xfe@x.example\n\nb", ["no recipient that can be read in To"]),
    Example("bytes in a name", b"To: J\xfcrgen <j@x.example>\n\n", [Sent("", ["j@x.example"])]),
    # Where the recipients stand.
    _mail("From: a@s.example\nCc: c@x.example", "c@x.example"),
    _mail("From: a@s.example\nBCC: c@x.example", "c@x.example"),
    _mail("From: a@s.example\nTo: Bob\nCc: c@x.example", "c@x.example"),
    _mail("From: a@s.example\nto : b@x.example\nCc: c@x.example", "b@x.example"),
    _mail("From: a@s.example\nSubject: To: b@x.example\n To: c@x.example", POSTMASTER),
    _mail("From: a@s.example\nX-To: b@x.example", POSTMASTER),
    Example("in the body", b"From: a@s.example\n\nTo: b@x.example\n", [Sent("a@s.example", [POSTMASTER])]),
    Example("many", b"From: a@s.example\nTo: " + b",\n ".join(b"u%d@x.example" % n for n in range(9_000)) + b"\n\n",
            [Sent("a@s.example", [f"u{n}@x.example" for n in range(9_000)])]),
    # The sender.
    _from("Return-Path: <back@s.example>\nFrom: a@s.example", "back@s.example"),
    _from("Return-Path: <>\nFrom: a@s.example", ""),
    _from("Return-Path: <one@s.example>\nReturn-Path: <two@s.example>\nFrom: a@s.example", "one@s.example"),
    *(_from(f"Return-Path: {text}\nFrom: a@s.example", "") for text in ("x", "", "< >", "<> (x)", "<MAILER-DAEMON>")),
    _from("From: A <a@s.example>, b@s.example", "a@s.example"),
    _from('From: "A" <a@s.example>', "a@s.example"),
    _from("From: J\u00fcrgen <j\u00fcrgen@s.example>", "j\u00fcrgen@s.example"),
    _from("From: nobody", ""),
    _from("Subject: s", ""),
]  # fmt: skip

_A = b"From: a@s.example\nTo: b@x.example\n\n"
_DATE = b"Thu Nov 26 10:00:00 2026"


def _box(name: str, file: bytes, *messages: bytes) -> Example:
    return Example(name, file, [Sent("a@s.example", ["b@x.example"], message) for message in messages])


def _one(name: str, *lines: bytes, end: bytes = b"\n") -> Example:
    """An mbox with one message that has these lines."""
    body = _A.replace(b"\n", end) + end.join(lines) + end
    return _box(name, b"From a@s.example " + _DATE + end + body + end, body)


def _two(name: str, first: bytes, separator: bytes) -> Example:
    """An mbox with two messages."""
    return _box(name, b"From a " + _DATE + b"\n" + _A + first + separator + _A + b"two\n\n", _A + first, _A + b"two\n")


_QUOTED = b"line\n\nFrom c@s.example " + _DATE + b"\nSubject: in the body\n\nend\n"

_LONG = b"x" * 2_000_000 + b"\n"


def _with_length(length: int) -> bytes:
    return b"From: a@s.example\nTo: b@x.example\nContent-Length: %d\n\n" % length


BOXES = [
    _one("one", b"body"),
    _one("CRLF", b"body", end=b"\r\n"),
    _one("empty lines at the end of the body", b"body", b"", b""),
    _one("a line of a body", b"Dear all,", b"From next week on we are closed.", b"Bye"),
    _one("behind an empty line", b"Dear all,", b"", b"From next week on we are closed.", b"Note: bring the keys."),
    _one("a line and a header", b"", b"From Fred: hello", b"Note: bring the keys."),
    _one("quoted", b"", b">From here", b">>From there"),
    _one("a date without a header behind it", b"", b"From bob " + _DATE, b"he says"),
    _two("two", b"one\n", b"\nFrom a@s.example " + _DATE + b"\n"),
    _two("no empty line between them", b"one\n", b"From a@s.example " + _DATE + b"\n"),
    _two("of Thunderbird", b"one\n", b"\nFrom - " + _DATE + b"\n"),
    _two("of Thunderbird, later", b"one\n", b"\nFrom \n"),
    _two("of Gmail", b"one\n", b"\nFrom 1560@xxx Thu Nov 26 10:00:00 +0000 2026\n"),
    _two("of Eudora", b"one\n", b"\nFrom ???@??? Thu Nov 26 10:00:00 2026\n"),
    _two("a quoted name", b"one\n", b'\nFrom "a b"@s.example ' + _DATE + b"\n"),
    _two("a zone", b"one\n", b"\nFrom a@s.example Thu Nov 26 10:00 CET 2026 remote from x\n"),
    _two("day before month", b"one\n", b"\nFrom a@s.example Thu, 26 Nov 2026 10:00:00 +0000\n"),
    _two("no date", b"one\n", b"\nFrom a@s.example\n"),
    _two("half a date", b"one\n", b"\nFrom a@s.example Thu Nov 26\n"),
    _box("without an empty line at the end", b"From a\n" + _A + b"body", _A + b"body"),
    _box("behind a mark", b"\xef\xbb\xbfFrom a\n" + _A + b"body\n\n", _A + b"body\n"),
    _box("headers alone", b"From a\n" + _A + b"From a\n" + _A, *[_A] * 2),
    _box("by length", b"From a\n" + _with_length(len(_QUOTED)) + _QUOTED + b"\nFrom b\n" + _A,
         _with_length(len(_QUOTED)) + _QUOTED, _A),
    _box("by length, to the end", b"From a\n" + _with_length(len(_QUOTED)) + _QUOTED + b"\n",
         _with_length(len(_QUOTED)) + _QUOTED),
    _box("by length, with an empty line more", b"From a\n" + _with_length(3) + b"x\n\n\nFrom b\n" + _A,
         _with_length(3) + b"x\n\n", _A),
    *(
        _box(f"a length of {length}", b"From a\n" + _with_length(length) + b"one\n\nFrom b " + _DATE + b"\n" + _A,
             _with_length(length) + b"one\n", _A)
        for length in (0, 1, 2, 6, 1_000, 999_999_999)
    ),
    _box("long", b"From a\n" + _A + _LONG + b"\nFrom b " + _DATE + b"\n" + _A, _A + _LONG, _A),
    _box("across what is read at once", b"".join([b"From a " + _DATE + b"\n" + _A + _LONG[-9_973:] + b"\n"] * 300),
         *[_A + _LONG[-9_973:]] * 300),
    Example("one that is none among others",
            b"From a\n" + _A + b"x\n\nFrom b\n>From c\nTo: d@x.example\n\nFrom d\n" + _A,
            [Sent("a@s.example", ["b@x.example"], _A + b"x\n"), "does not begin with a header",
             Sent("a@s.example", ["b@x.example"], _A)]),
    _box("headers without an end before a length",
         b"From a\n" + _A[:-1] + b"From b " + _DATE + b"\n" + _with_length(3) + b"two",
         _A[:-1], _with_length(3) + b"two"),
    _box("an old header behind an empty line", b"From a\n" + _A + b"\nFrom : x\nTo: d@x.example\n\n",
         _A + b"\nFrom : x\nTo: d@x.example\n"),
    Example("nothing in it", b"From a\n", []),
]  # fmt: skip

FILES = [
    Example("empty", b"", []),
    Example("blank", b"\r\n \n", []),
    Example("a mark and nothing", b"\xef\xbb\xbf", []),
    _box("a mark in front", b"\xef\xbb\xbf" + _A + b"body", _A + b"body"),
    _box(
        "an old header first",
        b"From : a@s.example\n" + _A[18:] + b"From b\n",
        b"From : a@s.example\n" + _A[18:] + b"From b\n",
    ),
    Example("no empty line", b"To: b@x.example", [Sent("", ["b@x.example"])]),
    Example("binary", _A + bytes(range(256)) * 9, [Sent("a@s.example", ["b@x.example"])]),
    Example("mixed ends", b"From: a@s.example\r\nTo: b@x.example\n\r\nx\r\n", [Sent("a@s.example", ["b@x.example"])]),
    Example("text", b"Dear all,\n\nhello\n", ["does not begin with a header"]),
    Example("an empty line before the headers", b"\n" + _A, ["does not begin with a header"]),
    Example("AppleDouble", b"\0\5\26\7\0\2\0\0Mac OS X        \0\2", ["does not begin with a header"]),
    Example("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\3", ["gzip -d"]),
    Example("zip", b"PK\x03\x04\x14\0", ["zip archive"]),
    Example("empty zip", b"PK\x05\x06" + b"\0" * 18, ["zip archive"]),
    Example("bzip2", b"BZh91AY&SY", ["bzip2 -d"]),
    Example("xz", b"\xfd7zXZ\x00\x00\x04", ["xz -d"]),
    Example("zstd", b"\x28\xb5\x2f\xfd\x24", ["zstd -d"]),
    Example("7z", b"7z\xbc\xaf\x27\x1c", ["7z archive"]),
    Example("UTF-16", "To: b@x.example\n\n".encode("utf-16"), ["UTF-16"]),
    Example("UTF-16, the other", b"\xfe\xff" + "To: b@x.example\n\n".encode("utf-16-be"), ["UTF-16"]),
    Example("Outlook", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", [".msg"]),
    Example("Outlook's folder", b"!BDN\0\0\0\0", [".pst"]),
    Example("Apple Mail", b"39        \n" + _A + b"<?xml version=", [".emlx"]),
    Example("a number", b"39\nhello", ["does not begin with a header"]),
]

ALL = ADDRESSES + BOXES + FILES


def found_in(file: bytes) -> list[Sent | str]:
    """What xferq makes of a file."""
    return [item for item in map(_become, read_stream(io.BytesIO(file), "file")) if item is not None]


def _become(found: object) -> "Sent | str | None":
    if isinstance(found, LeftOut):
        return None
    if isinstance(found, NoMail):
        return found.why
    try:
        sender, recipients, *_ = address_mail(found.data, postmaster=POSTMASTER)  # type: ignore[attr-defined]
    except Refused as error:
        return str(error)
    return Sent(sender, recipients, found.data)  # type: ignore[attr-defined]


def as_json() -> str:
    """What this Python makes of all examples, by name."""
    return json.dumps([(example.name, found_in(example.file)) for example in ALL], default=repr)


if __name__ == "__main__":
    print(as_json())
