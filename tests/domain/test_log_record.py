from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.envelope import MAX_ATTEMPTS
from streams.domain.log_record import rebind_content, rebind_record
from streams.domain.returned import InvalidEnvelope
from streams.domain.timestamp import format_time, unix_seconds

NODE = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
FROM = "http://bogus.example/.xfer.kumomta.internal"


def record(envelope: dict[str, Any] | None = None, **given: Any) -> bytes:
    base = {
        "sender": "s@example.com",
        "recipient": "user@example.com",
        "num_attempts": 2,
        "created": "2026-11-20T11:00:00.25+01:00",
        "meta": {"tenant": "t", "reception_protocol": "ESMTP", "none": None, "x-a": 1, "x-b": [2]},
    }
    arguments: dict[str, Any] = {
        "id": "d7ef132b5d7711eea8c8000c29c33806",
        "queue": "t@example.com",
        "from_queue": FROM,
        "reason": "scaling down",
        "size": 2048,
        "now": datetime(2026, 11, 24, 10, 0, 0, 5, tzinfo=UTC),
        "node_id": NODE,
    }
    return rebind_record(envelope=base | (envelope or {}), **(arguments | given))


def test_the_whole_record_in_its_order() -> None:
    expected = (
        '{"type":"AdminRebind","id":"d7ef132b5d7711eea8c8000c29c33806","sender":"s@example.com",'
        '"recipient":"user@example.com","queue":"t@example.com","site":"","size":2048,'
        '"response":{"code":250,"enhanced_code":null,'
        f'"content":"Rebound from {FROM} to t@example.com: scaling down","command":null}},'
        '"peer_address":null,"timestamp":1795514400,"event_time":"2026-11-24T10:00:00.000005Z",'
        '"created":1795168800,"created_time":"2026-11-20T10:00:00.250000Z","num_attempts":2,'
        '"bounce_classification":"Uncategorized","egress_pool":null,"egress_source":null,'
        '"source_address":null,"feedback_report":null,"meta":{},"headers":{},"delivery_protocol":null,'
        f'"reception_protocol":"ESMTP","nodeid":"{NODE}"}}'
    )
    assert record().decode() == expected


def test_one_record_does_not_show_in_the_next() -> None:
    plain = record({"meta": {}})
    record({"num_attempts": 9, "recipient": ["a@b", "c@d"]}, meta_names=("tenant",), headers={"Subject": "s"})
    assert record({"meta": {}}) == plain


@pytest.mark.parametrize(
    ("recipient", "written"),
    [("a@b", "a@b"), (["a@b"], "a@b"), (["a@b", "c@d"], ["a@b", "c@d"])],
)
def test_one_recipient_is_a_string(recipient: object, written: object) -> None:
    assert orjson.loads(record({"recipient": recipient}))["recipient"] == written


@pytest.mark.parametrize(
    ("names", "carried"),
    [
        ((), {}),
        (("tenant", "missing", "none"), {"tenant": "t"}),
        (("x-*",), {"x-a": 1, "x-b": [2]}),
        (("x-", "*x"), {}),
        (("x-b", "x-a"), {"x-b": [2], "x-a": 1}),
    ],
)
def test_only_configured_metadata_is_carried(names: tuple[str, ...], carried: dict[str, Any]) -> None:
    assert orjson.loads(record(meta_names=names))["meta"] == carried


def test_metadata_nested_too_deeply_is_only_a_matter_where_it_is_carried() -> None:
    envelope = {"meta": {"deep": orjson.loads(b"[" * 400 + b"]" * 400)}}
    assert orjson.loads(record(envelope))["meta"] == {}
    with pytest.raises(InvalidEnvelope, match="nested too deeply"):
        record(envelope, meta_names=("deep",))


def test_headers_are_carried_as_given() -> None:
    headers = {"Subject": "s", "Received": ["a", "b"]}
    assert orjson.loads(record(headers=headers))["headers"] == headers


@pytest.mark.parametrize("protocol", [None, 5, ["ESMTP"]])
def test_a_reception_protocol_is_a_string_or_null(protocol: object) -> None:
    assert orjson.loads(record({"meta": {"reception_protocol": protocol}}))["reception_protocol"] is None


def test_times_are_in_utc_and_whole_where_they_are() -> None:
    now = datetime(2026, 11, 24, 3, 0, 0, tzinfo=timezone(-timedelta(hours=7)))
    read = orjson.loads(record({"created": "1969-12-31T23:59:59.5Z"}, now=now))
    assert (read["event_time"], read["timestamp"]) == ("2026-11-24T10:00:00Z", 1795514400)
    assert (read["created_time"], read["created"]) == ("1969-12-31T23:59:59.500000Z", -1)


@pytest.mark.parametrize(
    ("reason", "line"),
    [("a\nb", "a b"), ("a\r\nb", "a b"), ("a\rb", "a b"), ("a\n\r\nb", "a  b"), ('"a"', '"a"'), ("\xfc\t", "\xfc\t")],
)
def test_the_content_is_a_single_line(reason: str, line: str) -> None:
    content = f"Rebound from {FROM} to d: {line}"
    assert rebind_content(FROM, "d", reason) == content
    assert orjson.loads(record(queue="d", reason=reason))["response"]["content"] == content


@given(
    id=st.text(),
    sender=st.text(),
    recipient=st.text() | st.lists(st.text(), min_size=1, max_size=3),
    queue=st.text(),
    reason=st.text(),
    size=st.integers(0, 2**40),
    attempts=st.integers(0, MAX_ATTEMPTS),
    protocol=st.none() | st.text() | st.integers(),
    headers=st.dictionaries(st.text(), st.text(), max_size=2),
    now=st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.timezones()),
)
def test_it_is_what_orjson_writes_of_the_whole(
    id: str,
    sender: str,
    recipient: Any,
    queue: str,
    reason: str,
    size: int,
    attempts: int,
    protocol: Any,
    headers: dict[str, str],
    now: datetime,
) -> None:
    envelope = {
        "sender": sender,
        "recipient": recipient,
        "num_attempts": attempts,
        "meta": {"reception_protocol": protocol},
    }
    found = record(envelope, id=id, queue=queue, reason=reason, size=size, headers=headers, now=now)
    fields = orjson.loads(found)
    assert orjson.dumps(fields) == found
    assert (fields["id"], fields["sender"], fields["queue"], fields["size"]) == (id, sender, queue, size)
    assert fields["recipient"] == (recipient[0] if type(recipient) is list and len(recipient) == 1 else recipient)
    assert fields["num_attempts"] == attempts
    assert fields["reception_protocol"] == (protocol if type(protocol) is str else None)
    assert fields["headers"] == headers
    assert fields["response"]["content"] == rebind_content(FROM, queue, reason)
    assert fields["event_time"] == format_time(now)
    assert fields["timestamp"] == unix_seconds(now)
    assert (fields["created"], fields["created_time"]) == (1795168800, "2026-11-20T10:00:00.250000Z")
