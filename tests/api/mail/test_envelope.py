"""The envelopes of mail for a queue."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.mail.envelope import make_envelope, postmaster_of
from streams.domain.envelope import dump_envelope, parse_envelope, queue_of_envelope, restore, save
from tests.api.mail.test_addresses import ADDRESSES

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


def envelope_of(
    queue: str = "example.com", *recipients: str, sender: str = "s@x.example", **more: Any
) -> dict[str, Any]:
    """A new envelope, having seen that it is a valid one of that queue."""
    envelope = make_envelope(queue, sender, recipients or ["a@example.com"], now=NOW, **more)
    assert parse_envelope(dump_envelope(envelope)) == envelope
    assert queue_of_envelope(envelope) == queue
    return envelope


def test_an_envelope() -> None:
    assert envelope_of("example.com", "a@example.com", "b@example.net") == {
        "sender": "s@x.example",
        "recipient": ["a@example.com", "b@example.net"],
        "meta": {},
        "num_attempts": 0,
        "created": "2026-11-24T10:00:00Z",
        "due": None,
        "schedule": None,
    }


def test_what_is_given_counts() -> None:
    schedule = {"expires": "3000-12-31T00:00:00Z"}
    envelope = envelope_of("example.com", "c@example.com", sender="", schedule=schedule, num_attempts=3)
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
    assert envelope_of(queue)["meta"] == meta


@given(ADDRESSES, st.text(min_size=1, max_size=30))
def test_any_mail_can_go_into_any_scheduled_queue_and_come_back(recipient: str, domain: str) -> None:
    queue = f"t@{domain.replace('!', '.')}"
    for one in (recipient, postmaster_of(queue)):
        envelope = envelope_of(queue, one)
        moved = save(envelope, xfer_queue="http://x/.xfer.kumomta.internal", from_queue=queue)
        back = restore(moved, now=NOW, xfer_queue="http://x/.xfer.kumomta.internal")
        assert back.queue == queue
        assert back.envelope["meta"] == envelope["meta"]


@pytest.mark.parametrize(
    ("queue", "postmaster"),
    [
        ("example.com", "postmaster@example.com"),
        ("c:t@example.com!r:25", "postmaster@example.com"),
        ("t@m\u00fcnchen.example", "postmaster@m\u00fcnchen.example"),
        ("foo.com:2025", "postmaster@localhost"),
        ("t@a b", "postmaster@localhost"),
        ("http://a/.xfer.kumomta.internal", "postmaster@localhost"),
    ],
)
def test_the_postmaster(queue: str, postmaster: str) -> None:
    assert postmaster_of(queue) == postmaster


def test_the_envelope_is_json() -> None:
    assert json.loads(dump_envelope(envelope_of()))["meta"] == {}
