"""What a move writes into the delivery log."""

from datetime import UTC, datetime

import orjson
import pytest

from streams.domain.claim import Claim, Kind
from streams.domain.topic import topic_of
from streams.drain.strategy import STRATEGIES
from tests.engine.world import envelope
from tests.fakes.log import FakeRecord

XFER_QUEUE = "http://bogus.example/.xfer.kumomta.internal"
NOW = datetime(2026, 11, 29, 12, 0, 0, tzinfo=UTC)
MAIL = b"Received: one\r\nReceived: two\r\nsubject: =?utf-8?q?=C3=BC?=\r\nX-Tenant: t\r\nTo: a@b\r\n\r\nSubject: body"


def claim_of(kind: Kind) -> Claim:
    queue = XFER_QUEUE if kind == "xfer.cancel" else "example.com"
    return Claim(
        id="c", kind=kind, topic=topic_of(queue), topic_id="t", queue=queue, xfer_queue=XFER_QUEUE, reason="why",
        group="g", ranges={}, claimed_at="2026-11-29T10:00:00Z",
    )  # fmt: skip


@pytest.mark.parametrize("kind", list(STRATEGIES))
@pytest.mark.parametrize(
    ("names", "value", "carried"),
    [
        ((), MAIL, {}),
        (("Subject", "Received", "x-*"), MAIL, {"Received": ["one", "two"], "subject": "\u00fc", "X-Tenant": "t"}),
        (("Subject",), b"", {}),
        (("Subject",), None, {}),
    ],
)
def test_the_log_carries_the_headers_that_are_asked_for(
    kind: Kind, names: tuple[str, ...], value: bytes | None, carried: object
) -> None:
    move = STRATEGIES[kind](claim_of(kind), node_id="n", log_headers=names)
    header = envelope(XFER_QUEUE, saved={"queue": "example.com"}) if kind == "xfer.cancel" else envelope("example.com")
    record = FakeRecord(0, 0, 0, b"id", value, [("envelope", header)])
    assert orjson.loads(move(record, NOW).log)["headers"] == carried
