"""Mail from files, and the envelopes made for it."""

import json
import mailbox
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.mail import make_envelope, read_mail
from streams.domain.envelope import dump_envelope, parse_envelope, queue_of_envelope, restore, save
from streams.errors import Refused

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
MESSAGE = b"From: Me <me@sender.example>\r\nTo: a@example.com, B <b@example.net>\r\nSubject: s\r\n\r\nbody\r\n"


def envelope_of(data: bytes, queue: str = "example.com", **more: Any) -> dict[str, Any]:
    """A new envelope, having seen that it is a valid one of that queue."""
    envelope = make_envelope(data, queue, now=NOW, **more)
    assert parse_envelope(dump_envelope(envelope)) == envelope
    assert queue_of_envelope(envelope) == queue
    return envelope


def test_an_envelope_from_the_headers() -> None:
    assert envelope_of(MESSAGE) == {
        "sender": "me@sender.example",
        "recipient": ["a@example.com", "b@example.net"],
        "meta": {},
        "num_attempts": 0,
        "created": "2026-11-24T10:00:00Z",
        "due": None,
        "schedule": None,
    }


@pytest.mark.parametrize(
    ("headers", "sender"),
    [
        (b"Return-Path: <back@x.example>\nFrom: me@y.example\n", "back@x.example"),
        (b"Return-Path: <>\nFrom: me@y.example\n", ""),
        (b"Return-Path: nonsense\nFrom: me@y.example\n", "me@y.example"),
        (b"From: nobody\n", ""),
        (b"", ""),
    ],
)
def test_the_sender(headers: bytes, sender: str) -> None:
    assert envelope_of(headers + b"\nbody")["sender"] == sender


@pytest.mark.parametrize(
    ("headers", "recipient"),
    [
        (b"To: x@example.com\n", "x@example.com"),
        (b"To: x@example.com, x@example.com\n", "x@example.com"),
        (b"To: undisclosed-recipients:;\n", "postmaster@example.com"),
        (b"To: \xff\xfe@example.com\n", "\ufffd\ufffd@example.com"),
        (b"To: =?utf-8?q?=00?= <a b@example.com>\n", "postmaster@example.com"),
        (b"", "postmaster@example.com"),
    ],
)
def test_the_recipient(headers: bytes, recipient: str) -> None:
    assert envelope_of(headers + b"\nTo: not@a.header")["recipient"] == recipient


def test_what_is_given_counts() -> None:
    schedule = {"expires": "3000-12-31T00:00:00Z"}
    envelope = envelope_of(MESSAGE, sender="", recipients=["c@example.com"], schedule=schedule, num_attempts=3)
    assert (envelope["sender"], envelope["recipient"]) == ("", "c@example.com")
    assert (envelope["schedule"], envelope["num_attempts"]) == (schedule, 3)


@pytest.mark.parametrize(
    ("queue", "meta"),
    [
        ("example.com", {}),
        ("t@example.com", {"tenant": "t"}),
        ("c:t@example.com!r:25", {"tenant": "t", "campaign": "c", "routing_domain": "r:25"}),
        ("c:@example.com", {"tenant": "", "campaign": "c"}),
        ("t@other.example", {"tenant": "t", "queue": "t@other.example"}),
        ("Example.COM", {"queue": "Example.COM"}),
        ("foo.com:2025", {"queue": "foo.com:2025"}),
        ("http://a/.xfer.kumomta.internal", {"queue": "http://a/.xfer.kumomta.internal"}),
    ],
)
def test_the_queue_is_named_only_where_it_must_be(queue: str, meta: dict[str, str]) -> None:
    assert envelope_of(MESSAGE, queue)["meta"] == meta


@given(st.binary(max_size=300), st.text(min_size=1, max_size=30))
def test_any_message_can_go_into_any_scheduled_queue_and_come_back(data: bytes, domain: str) -> None:
    queue = f"t@{domain.replace('!', '.')}"
    envelope = envelope_of(data, queue)
    moved = save(envelope, xfer_queue="http://x/.xfer.kumomta.internal", from_queue=queue)
    back = restore(moved, now=NOW, xfer_queue="http://x/.xfer.kumomta.internal")
    assert back.queue == queue
    assert back.envelope["meta"] == envelope["meta"]


def test_files(tmp_path: Path) -> None:
    (tmp_path / "one.eml").write_bytes(MESSAGE)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "two.eml").write_bytes(b"Subject: 2\n\n")
    (tmp_path / "empty.eml").write_bytes(b"")
    (tmp_path / "other.txt").write_bytes(b"no mail")
    assert [mail.data for mail in read_mail(tmp_path / "one.eml")] == [MESSAGE]
    assert [mail.data for mail in read_mail(tmp_path / "empty.eml")] == []
    assert [mail.data for mail in read_mail(tmp_path)] == [b"Subject: 2\n\n", MESSAGE]
    assert next(read_mail(tmp_path)).source == str(tmp_path / "deep" / "two.eml")


def test_an_mbox_stays_as_it_is(tmp_path: Path) -> None:
    text = b"From a Tue Nov 24\nSubject: 1\n\n>From here\n\nFrom b Tue Nov 24\nSubject: 2\n\n\xff\n"
    (tmp_path / "mail").write_bytes(text)
    mails = list(read_mail(tmp_path / "mail"))
    assert [mail.data for mail in mails] == [b"Subject: 1\n\n>From here\n", b"Subject: 2\n\n\xff\n"]
    assert mails[1].source == f"{tmp_path / 'mail'}, message 2"
    assert (tmp_path / "mail").read_bytes() == text


def test_a_maildir(tmp_path: Path) -> None:
    box = mailbox.Maildir(tmp_path / "box", create=True)
    for number in range(3):
        box.add(f"Subject: {number}\n\n".encode())
    assert sorted(mail.data for mail in read_mail(tmp_path / "box")) == [b"Subject: %d\n\n" % n for n in range(3)]


def test_what_is_no_mail(tmp_path: Path) -> None:
    (tmp_path / "box" / "cur").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for path, what in (("nope", "No such file"), ("box", "without the folder tmp"), ("empty", "neither a maildir")):
        with pytest.raises(Refused, match=what) as caught:
            list(read_mail(tmp_path / path))
        assert str(tmp_path / path) in str(caught.value)


def test_the_envelope_is_json() -> None:
    assert json.loads(dump_envelope(envelope_of(MESSAGE)))["meta"] == {}
