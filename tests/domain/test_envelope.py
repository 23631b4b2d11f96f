import copy
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.domain.envelope import Restored, dump_envelope, parse_envelope, queue_of_envelope, restore, save
from streams.domain.returned import InvalidEnvelope, NotRestorable, ReturnReason
from streams.domain.schedule import Schedule
from streams.domain.timestamp import format_time, parse_time

from .strategies import (
    CONCERNED,
    OTHER_XFER_QUEUE,
    XFER_QUEUE,
    envelopes,
    exactly,
    json_values,
    times,
    without,
)

NOW = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
OFFICE = {"dow": "Mon,Tue", "tz": "America/Phoenix", "start": "09:00:00", "end": "17:00:00"}


def envelope_with(**fields: Any) -> dict[str, Any]:
    return {
        "sender": "s@example.com",
        "recipient": "user@example.com",
        "meta": {},
        "num_attempts": 1,
        "created": "2026-11-20T10:00:00Z",
        "due": None,
        "schedule": None,
    } | fields


def transferred(info: object, **fields: Any) -> dict[str, Any]:
    return envelope_with(**({"meta": {"queue": XFER_QUEUE, "xfer_queue_info": info}} | fields))


def restored(info: object, **fields: Any) -> Restored:
    return restore(transferred(info, **fields), now=NOW, xfer_queue=XFER_QUEUE)


def over_the_wire(envelope: dict[str, Any]) -> dict[str, Any]:
    return parse_envelope(dump_envelope(envelope))


# Saving and restoring


@given(envelopes(), times)
def test_restoring_is_the_inverse_of_saving(envelope: dict[str, Any], now: datetime) -> None:
    saved = over_the_wire(save(over_the_wire(envelope), xfer_queue=XFER_QUEUE))
    again = restore(saved, now=now, xfer_queue=XFER_QUEUE)

    assert saved["meta"]["queue"] == XFER_QUEUE == queue_of_envelope(saved)
    assert saved.get("due") is None
    assert saved.get("schedule") is None
    assert saved["num_attempts"] == envelope["num_attempts"]
    assert not {"tenant", "campaign", "routing_domain"} & set(saved["meta"])

    after = over_the_wire(again.envelope)
    assert exactly(without(after, "due")) == exactly(without(envelope, "due"))
    schedule = envelope.get("schedule")
    assert after["due"] == format_time(now if schedule is None else Schedule.parse(schedule).adjust(now))
    assert parse_time(after["due"]) >= now
    assert again.queue == queue_of_envelope(envelope)


@given(envelopes(), times)
def test_what_is_not_concerned_stays_in_its_order(envelope: dict[str, Any], now: datetime) -> None:
    saved = save(envelope, xfer_queue=XFER_QUEUE)
    after = restore(saved, now=now, xfer_queue=XFER_QUEUE).envelope
    meta = without(envelope["meta"], *CONCERNED)
    for changed in (saved, after):
        assert orjson.dumps(without(changed["meta"], *CONCERNED)) == orjson.dumps(meta)
        assert [key for key in changed if key in envelope] == list(envelope)


@given(envelopes(), times)
def test_nothing_that_is_given_is_changed(envelope: dict[str, Any], now: datetime) -> None:
    before = copy.deepcopy(envelope)
    saved = save(envelope, xfer_queue=XFER_QUEUE)
    assert orjson.dumps(envelope) == orjson.dumps(before)
    saved_before = copy.deepcopy(saved)
    restore(saved, now=now, xfer_queue=XFER_QUEUE)
    assert orjson.dumps(saved) == orjson.dumps(saved_before)


@given(envelopes())
def test_a_second_transfer_keeps_what_the_first_one_saved(envelope: dict[str, Any]) -> None:
    first = save(envelope, xfer_queue=XFER_QUEUE)
    for second in (
        save(first, xfer_queue=OTHER_XFER_QUEUE),
        save(first, xfer_queue=OTHER_XFER_QUEUE, from_queue=XFER_QUEUE),
    ):
        assert second["meta"]["queue"] == OTHER_XFER_QUEUE
        second["meta"]["queue"] = XFER_QUEUE
        assert orjson.dumps(second) == orjson.dumps(first)


def test_all_that_is_saved() -> None:
    meta = {"queue": "q@d", "routing_domain": "r", "tenant": "t", "campaign": "c", "kept": 1}
    due = "2026-11-21T10:00:00+01:00"
    saved = save(envelope_with(meta=meta, schedule=OFFICE, due=due, num_attempts=7), xfer_queue=XFER_QUEUE)
    info = meta | {"schedule": OFFICE, "num_attempts": 7, "due": due}
    del info["kept"]
    assert saved == envelope_with(meta={"queue": XFER_QUEUE, "xfer_queue_info": info, "kept": 1}, num_attempts=7)


def test_what_is_not_there_is_not_saved() -> None:
    saved = save(envelope_with(meta={"tenant": None, "queue": None}), xfer_queue=XFER_QUEUE)
    assert saved["meta"] == {"queue": XFER_QUEUE, "xfer_queue_info": {"num_attempts": 1}}


def test_info_left_over_in_a_scheduled_queue_is_replaced() -> None:
    envelope = envelope_with(meta={"tenant": "t", "xfer_queue_info": {"tenant": "stale"}})
    saved = save(envelope, xfer_queue=XFER_QUEUE, from_queue="t@example.com")
    assert saved["meta"]["xfer_queue_info"] == {"tenant": "t", "num_attempts": 1}
    # Without knowing the queue, what is there counts as the first saved info.
    saved = save(envelope, xfer_queue=XFER_QUEUE)
    assert saved["meta"]["xfer_queue_info"] == {"tenant": "stale"}


def test_without_saved_info_a_message_in_an_xfer_queue_still_changes_queue() -> None:
    envelope = envelope_with(meta={"queue": XFER_QUEUE, "tenant": "t"})
    for saved in (
        save(envelope, xfer_queue=OTHER_XFER_QUEUE),
        save(envelope, xfer_queue=OTHER_XFER_QUEUE, from_queue=XFER_QUEUE),
    ):
        assert saved["meta"] == {"queue": OTHER_XFER_QUEUE, "tenant": "t"}


@pytest.mark.parametrize(
    ("envelope", "detail"),
    [
        (envelope_with(meta={"tenant": 5}), "metadata tenant"),
        (envelope_with(meta={"queue": ["q"]}), "metadata queue"),
        (envelope_with(schedule={"dow": "Mon"}), "lacks tz, start, end"),
        (envelope_with(schedule={"x": "y"}), "unknown field"),
        (envelope_with(schedule={"dow": orjson.loads("[" * 300 + "]" * 300)}), "too deeply"),
    ],
)
def test_what_could_not_be_restored_is_not_saved(envelope: dict[str, Any], detail: str) -> None:
    with pytest.raises(InvalidEnvelope, match=detail):
        save(envelope, xfer_queue=XFER_QUEUE)


def test_unknown_fields_of_the_saved_info_are_ignored() -> None:
    assert restored({"num_attempts": 3, "later": {"a": 1}}).envelope == envelope_with(
        num_attempts=3, due="2026-11-24T10:00:00Z"
    )


def test_attempts_are_0_by_default_and_null_is_unset() -> None:
    info = {"queue": None, "routing_domain": None, "tenant": None, "campaign": None, "schedule": None, "due": None}
    for each in ({}, info):
        assert restored(each).envelope == envelope_with(num_attempts=0, due="2026-11-24T10:00:00Z")


def test_what_the_info_does_not_have_is_unset() -> None:
    meta = {"queue": XFER_QUEUE, "tenant": 5, "campaign": "c", "routing_domain": None, "xfer_queue_info": {}}
    after = restored({}, meta=meta, schedule=OFFICE)
    assert after.envelope["schedule"] is None
    assert after.envelope["meta"] == {}
    assert after.queue == "example.com"


def test_the_schedule_is_kept_as_it_was_written() -> None:
    schedule = {"end": "17:0", "dow": "TUESDAY,mon,Mon", "start": "9:00:00.5", "tz": "America/Phoenix"}
    after = restored({"schedule": schedule}, schedule={"expires": "2000-01-01T00:00:00Z"})
    assert list(after.envelope["schedule"].items()) == list(schedule.items())
    assert after.envelope["due"] == "2026-11-24T16:00:00Z"


def test_due_has_microseconds_where_now_has() -> None:
    now = datetime(2026, 11, 24, 10, 0, 0, 1, tzinfo=UTC)
    assert restore(transferred({}), now=now, xfer_queue=XFER_QUEUE).envelope["due"] == "2026-11-24T10:00:00.000001Z"


def test_a_schedule_of_any_size() -> None:
    schedule = OFFICE | {"dow": ",".join(["Tue"] * 1000)}
    for _ in range(2):
        assert restored({"schedule": schedule}).envelope["due"] == "2026-11-24T16:00:00Z"


@pytest.mark.parametrize(
    "info",
    [
        "x",
        [],
        0,
        False,
        {"num_attempts": -1},
        {"num_attempts": 65536},
        {"num_attempts": True},
        {"num_attempts": 1.0},
        {"num_attempts": "1"},
        {"num_attempts": None},
        {"queue": 5},
        {"tenant": ["t"]},
        {"campaign": {}},
        {"routing_domain": False},
        {"due": "tomorrow"},
        {"due": 1700000000},
        {"due": "2026-11-24T10:00:00"},
        {"schedule": "Mon"},
        {"schedule": []},
        {"schedule": {"dow": "Mon"}},
        {"schedule": {"first_attempt": None}},
        {"schedule": {"x": orjson.loads("[" * 300 + "]" * 300)}},
        {"schedule": OFFICE | {"first_attempt": "9999-12-31T23:59:59Z"}},
    ],
)
def test_saved_info_that_is_not_valid(info: object) -> None:
    with pytest.raises(NotRestorable) as refused:
        restored(info)
    assert refused.value.code is ReturnReason.INVALID_SAVED_INFO


@pytest.mark.parametrize("meta", [{}, {"queue": XFER_QUEUE}, {"xfer_queue_info": None}])
def test_no_saved_info(meta: dict[str, Any]) -> None:
    with pytest.raises(NotRestorable) as refused:
        restore(envelope_with(meta=meta), now=NOW, xfer_queue=XFER_QUEUE)
    assert refused.value.code is ReturnReason.NO_SAVED_INFO


@pytest.mark.parametrize(
    ("info", "recipient"),
    [
        ({}, "postmaster"),
        ({}, ""),
        ({}, "user@"),
        ({}, ["postmaster", "user@example.com"]),
        ({"tenant": "t"}, "postmaster"),
        ({"routing_domain": "r"}, "user@"),
        ({}, "user@" + "x" * 1025),
        ({}, "user@" + "\xe9" * 513),
        ({"tenant": "t" * 1014}, "user@example.com"),
        ({"queue": ""}, "user@example.com"),
        ({"queue": "t@"}, "user@example.com"),
        ({"queue": "!r"}, "user@example.com"),
        ({"queue": "t@!r"}, "user@example.com"),
        ({"queue": "x" * 1025}, "user@example.com"),
        ({"queue": XFER_QUEUE}, "user@example.com"),
        ({"queue": OTHER_XFER_QUEUE}, "user@example.com"),
        ({}, "user@x.xfer.kumomta.internal"),
    ],
)
def test_no_queue_to_restore_to(info: dict[str, Any], recipient: object) -> None:
    with pytest.raises(NotRestorable) as refused:
        restored(info, recipient=recipient)
    assert refused.value.code is ReturnReason.UNRESOLVABLE_QUEUE
    assert len(refused.value.detail) < 100


def test_what_is_no_xfer_queue_by_name_is_still_not_restored_to_itself() -> None:
    with pytest.raises(NotRestorable):
        restore(transferred({"queue": "example.com"}), now=NOW, xfer_queue="example.com")


@given(json_values | st.dictionaries(st.sampled_from([*CONCERNED, "num_attempts", "schedule", "due"]), json_values))
def test_any_saved_info_is_restored_or_refused(info: object) -> None:
    envelope = transferred(info)
    before = orjson.dumps(envelope)
    try:
        after = restore(envelope, now=NOW, xfer_queue=XFER_QUEUE).envelope
    except NotRestorable:
        pass
    else:
        assert "xfer_queue_info" not in over_the_wire(after)["meta"]
    assert orjson.dumps(envelope) == before


# The queue of a message


@pytest.mark.parametrize(
    ("meta", "recipient", "queue"),
    [
        ({}, "user@Example.COM", "example.com"),
        ({}, '"a@b"@Example.COM', "example.com"),
        ({}, "user@[IPv6:::1]", "[ipv6:::1]"),
        ({}, "user@B\xdcCHER.example", "b\xfccher.example"),
        ({}, ["a@one.example", "b@two.example"], "one.example"),
        ({"tenant": "T"}, "u@d", "T@d"),
        ({"tenant": ""}, "u@d", "@d"),
        ({"campaign": "c"}, "u@d", "c:@d"),
        ({"campaign": "c", "tenant": "t", "routing_domain": "R:25"}, "u@d", "c:t@d!R:25"),
        ({"routing_domain": "r"}, "u@d", "d!r"),
        ({"tenant": None, "campaign": None, "queue": None, "routing_domain": None}, "u@d", "d"),
        ({"queue": "Any:Thing@D!r", "tenant": "t"}, "u@d", "Any:Thing@D!r"),
        ({"queue": "q"}, "postmaster", "q"),
    ],
)
def test_queue_of_a_message(meta: dict[str, Any], recipient: object, queue: str) -> None:
    assert queue_of_envelope(envelope_with(meta=meta, recipient=recipient)) == queue


@pytest.mark.parametrize("part", ["queue", "tenant", "campaign", "routing_domain"])
def test_metadata_that_cannot_be_part_of_a_name(part: str) -> None:
    with pytest.raises(InvalidEnvelope, match=part):
        queue_of_envelope(envelope_with(meta={part: 5}))


# Reading and writing


@given(envelopes())
def test_an_envelope_is_read_and_written_as_it_is(envelope: dict[str, Any]) -> None:
    raw = orjson.dumps(envelope)
    assert dump_envelope(parse_envelope(raw)) == raw


def test_numbers_are_64_bit_integers_or_doubles() -> None:
    raw = b'{"a":18446744073709551615,"b":-9223372036854775808,"c":0.1,"d":1e300,"e":-0.0,"f":9007199254740993}'
    read = parse_envelope(orjson.dumps(envelope_with(meta={"n": orjson.Fragment(raw)})))["meta"]["n"]
    assert read == {
        "a": 2**64 - 1,
        "b": -(2**63),
        "c": 0.1,
        "d": 1e300,
        "e": 0,
        "f": 2**53 + 1,
    }
    assert str(read["e"]) == "-0.0"


@pytest.mark.parametrize(
    ("field", "value", "detail"),
    [
        ("sender", None, "sender"),
        ("sender", 5, "sender"),
        ("recipient", None, "recipient"),
        ("recipient", [], "recipient"),
        ("recipient", ["a@b", 5], "recipient"),
        ("recipient", {"a": "b"}, "recipient"),
        ("meta", None, "meta"),
        ("meta", [], "meta"),
        ("num_attempts", None, "num_attempts"),
        ("num_attempts", -1, "num_attempts"),
        ("num_attempts", 65536, "num_attempts"),
        ("num_attempts", True, "num_attempts"),
        ("num_attempts", 1.0, "num_attempts"),
        ("num_attempts", "1", "num_attempts"),
        ("created", None, "created"),
        ("created", 1700000000, "created"),
        ("created", "2026-11-24", "created"),
        ("due", "2026-11-24", "due"),
        ("due", 5, "due"),
        ("due", False, "due"),
        ("schedule", "Mon", "schedule"),
        ("schedule", [], "schedule"),
        ("schedule", False, "schedule"),
    ],
)
def test_a_field_that_is_not_valid(field: str, value: object, detail: str) -> None:
    with pytest.raises(InvalidEnvelope, match=detail) as refused:
        parse_envelope(orjson.dumps(envelope_with(**{field: value})))
    assert refused.value.code is ReturnReason.INVALID_ENVELOPE


@pytest.mark.parametrize("field", ["sender", "recipient", "meta", "num_attempts", "created"])
def test_a_field_that_is_missing(field: str) -> None:
    with pytest.raises(InvalidEnvelope, match=field):
        parse_envelope(orjson.dumps(without(envelope_with(), field)))


@pytest.mark.parametrize("attempts", [0, 65535])
def test_attempts_up_to_the_last_u16(attempts: int) -> None:
    assert parse_envelope(orjson.dumps(envelope_with(num_attempts=attempts)))["num_attempts"] == attempts


@pytest.mark.parametrize("field", ["due", "schedule"])
def test_a_field_that_may_be_missing(field: str) -> None:
    envelope = without(envelope_with(), field)
    assert parse_envelope(orjson.dumps(envelope)) == envelope


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b"\xff",
        b'{"sender": NaN}',
        b'{"sender": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 2000 + b"1" + b"}" * 2000,
    ],
)
def test_not_an_envelope(raw: bytes) -> None:
    with pytest.raises(InvalidEnvelope):
        parse_envelope(raw)


@given(
    st.binary()
    | json_values.map(orjson.dumps)
    | st.dictionaries(st.sampled_from(list(envelope_with())), json_values).map(
        lambda fields: orjson.dumps(envelope_with(**fields))
    )
)
def test_any_bytes_are_an_envelope_or_are_not(raw: bytes) -> None:
    try:
        envelope = parse_envelope(raw)
    except InvalidEnvelope:
        return
    assert orjson.loads(dump_envelope(envelope)) == orjson.loads(raw)


def test_nested_too_deeply_to_be_written() -> None:
    deep = orjson.loads(b"[" * 400 + b"]" * 400)
    for envelope in (envelope_with(meta={"deep": deep}), envelope_with(other=deep)):
        with pytest.raises(InvalidEnvelope, match="nested too deeply"):
            dump_envelope(envelope)
