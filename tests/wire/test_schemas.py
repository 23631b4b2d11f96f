"""What the schemas say is what xferq goes by: whatever it takes they take, and the reverse but for what is listed."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.domain.command import ID_RULE, InvalidCommand, parse_command
from streams.domain.envelope import dump_envelope, parse_envelope, restore, save
from streams.domain.log_record import rebind_record
from streams.domain.queue_name import XFER_SUFFIX
from streams.domain.returned import NotRestorable
from tests.domain import strategies
from tests.domain.strategies import OTHER_XFER_QUEUE, XFER_QUEUE, envelopes, json_values, texts
from tests.support.examples import examples
from tests.wire.schemas import document

COMMAND = jsonschema.Draft202012Validator(document("command"))
ENVELOPE = jsonschema.Draft202012Validator(document("envelope"))
LOG_RECORD = jsonschema.Draft202012Validator(document("log-record"))
NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)

MOMENTS = [
    "2026-11-24T10:00:00Z",
    "2026-11-24t10:00:00.5z",
    "2026-11-24 10:00:00+05:45",
    "2016-12-31T23:59:60Z",
    "2026-02-30T10:00:00Z",
    "2026-11-24T25:00:00Z",
    "0000-01-01T00:00:00Z",
    "2026-11-24T10:00:00Z\n",
    "2026-11-24T10:00:00",
    "2026-11-24T10:00:00." + "0" * 50 + "Z",
    "yesterday",
]
TEXTS = ["", "x", "x" * 1024, "x" * 1025, "\xe9" * 512, "\xe9" * 513, "a\n", "\u2028"]
QUEUES = [XFER_QUEUE, XFER_QUEUE + "\n", "t@example.com", "x" * 1002 + XFER_SUFFIX, "x" * 1003 + XFER_SUFFIX]
TARGETS = ["http://Host", "HTTPS:host", " http://h\t/", "ftp://host", "host", "", "http://" + "x" * 1000 + "/"]
IDS = ["a", ".", "..", "...", "0.9_A-z", "x" * 128, "x" * 129, "a b", "a\n", "", "\xfc"]

texts_of_all_lengths = st.sampled_from(TEXTS) | texts
COMMAND_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "type": st.sampled_from(["xfer.cancel", "xfer.start", "xfer.stop"]),
    "queue_name": st.sampled_from(QUEUES),
    "reason": texts_of_all_lengths,
    "id": st.sampled_from(IDS),
    "requested_at": st.sampled_from(MOMENTS),
    "requested_by": texts_of_all_lengths,
    "target": st.sampled_from(TARGETS),
    "campaign": texts_of_all_lengths,
    "tenant": texts_of_all_lengths,
    "domain": texts_of_all_lengths,
    "routing_domain": texts_of_all_lengths,
    "queue_names": st.lists(st.sampled_from(TEXTS), max_size=3),
    "everything": st.booleans(),
    "x_own": json_values,
    "unknown": st.none() | json_values,
}
CANCEL: dict[str, Any] = {"type": "xfer.cancel", "queue_name": XFER_QUEUE, "reason": "scaling down"}
START: dict[str, Any] = {"type": "xfer.start", "target": "http://Bogus.example", "reason": "scaling down"}


@st.composite
def changed(
    draw: st.DrawFn, base: st.SearchStrategy[dict[str, Any]], fields: dict[str, st.SearchStrategy[Any]]
) -> dict[str, Any]:
    """An object, most of the time with a few of its fields otherwise: of the right kind, of any other, or not there."""
    found = dict(draw(base))
    for name in draw(st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True)):
        match draw(st.integers(0, 5)):
            case 0:
                found.pop(name, None)
            case 1:
                found[name] = draw(json_values)
            case _:
                found[name] = draw(fields[name])
    return found


commands = changed(st.sampled_from([CANCEL, START]), COMMAND_FIELDS) | json_values


def refusal_of_command(value: object) -> str | None:
    """Why it is no command; None for one that is."""
    try:
        parse_command(orjson.dumps(value), fallback_id="place")
    except InvalidCommand as error:
        return error.reason
    return None


def texts_in(value: object) -> Iterator[str]:
    """All strings in a JSON value, but for names."""
    if isinstance(value, str):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts_in(child)


def is_excused(refusal: str, value: object) -> bool:
    """Whether this is one of the refusals that no schema can say: `UNSAID["command"]`, in its order."""
    found = list(texts_in(value))
    return (
        (refusal.endswith("must be 1 to 1024 bytes of UTF-8") and any(len(t) < len(t.encode()) > 1024 for t in found))
        or re.fullmatch("target is (not|too long for) an? (valid URL|http or https URL|URL to transfer to)", refusal)
        is not None
        or refusal == "requested_at is not a time that exists, or out of range"
        or re.fullmatch("everything must be (absent where there is a|true where there is no) criterion", refusal)
        is not None
        or (
            any(text.endswith("\n") for text in found)
            and re.match("id must be|requested_at is|.*is not an xfer", refusal, re.S) is not None
        )
    )


@settings(max_examples=examples(300))
@given(commands)
@example(CANCEL)
@example(START | {"queue_names": ["q"] * 10_000})
@example(START | {"queue_names": ["q"] * 10_001})
@example(CANCEL | {"id": None, "requested_at": None, "requested_by": None})
@example(START | {"campaign": None, "queue_names": None})
@example(START | {"queue_names": [None]})
@example(START | {"queue_names": []})
@example(START | {"tennant": "t"})
@example(START | {"x_own": [], "tennant": None})
@example(CANCEL | {"id": ".."})
def test_a_command_is_what_its_schema_takes(value: object) -> None:
    refusal = refusal_of_command(value)
    if COMMAND.is_valid(value):
        assert refusal is None or is_excused(refusal, value), refusal
    else:
        assert refusal is not None


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"reason": "\xe9" * 513}, "reason must be 1 to 1024 bytes of UTF-8"),
        ({"type": "xfer.start", "target": "ftp://host", "queue_name": None}, "target is not an http or https URL"),
        ({"requested_at": "2026-02-30T10:00:00Z"}, "requested_at is not a time that exists, or out of range"),
        ({"id": "a\n"}, f"id {ID_RULE}"),
        (
            {"type": "xfer.start", "target": "http://host", "queue_name": None, "everything": False},
            "everything must be true where there is no criterion",
        ),
    ],
)
def test_each_exception_is_one(change: dict[str, Any], refusal: str) -> None:
    assert COMMAND.is_valid(CANCEL | change)
    assert refusal_of_command(CANCEL | change) == refusal
    assert is_excused(refusal, CANCEL | change)


def test_no_other_refusal_is_excused() -> None:
    for refusal in ("reason is missing", "reason must be 1 to 1024 bytes of UTF-8", "t is not an xfer queue"):
        assert not is_excused(refusal, CANCEL)


@given(changed(st.sampled_from([CANCEL, START]), COMMAND_FIELDS))
def test_what_xferq_writes_as_a_command_is_one(value: dict[str, Any]) -> None:
    if refusal_of_command(value) is None:
        COMMAND.validate(orjson.loads(parse_command(orjson.dumps(value), fallback_id="place").to_bytes()))


# ---- envelopes

SAVED_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "queue": st.sampled_from(["t@example.com", OTHER_XFER_QUEUE, "", "t@", "!r", "x" * 1025]),
    "tenant": st.none() | st.sampled_from(["t", "", "x" * 1025]),
    "schedule": st.none() | strategies.schedules(),
    "num_attempts": st.sampled_from([0, 65535, 65536, -1, 1.0, True]),
    "due": st.none() | st.sampled_from(MOMENTS),
    "unknown": json_values,
}
SCHEDULE: dict[str, Any] = {"dow": "Mon,Tue", "tz": "Europe/Berlin", "start": "09:00", "end": "17:00:00"}
SCHEDULE_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "dow": st.sampled_from(["mon", "Mon,Friday", "MON,", "", "Mo", "\u212aon", "Sat\n"]),
    "tz": st.sampled_from(["UTC", "Mars/Phobos", ""]),
    "start": st.sampled_from(["9:0", "09:00:00.5", "24:00", "23:59", "9", "09:00\n"]),
    "end": st.sampled_from(["9:0", "23:59:60", "00:00", "later"]),
    "first_attempt": st.sampled_from([*MOMENTS, "9999-12-31T23:00:00Z"]),
    "expires": st.sampled_from(MOMENTS),
    "else": json_values,
}
schedules = changed(st.sampled_from([{}, SCHEDULE]), SCHEDULE_FIELDS) | strategies.schedules()
saved = changed(st.just({"queue": "t@example.com", "num_attempts": 2}), SAVED_FIELDS | {"schedule": schedules})
META_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "xfer_queue_info": saved,
    "queue": st.none() | st.sampled_from(["t@example.com", XFER_QUEUE, "", "t@"]),
    "tenant": st.sampled_from(["t", "", 5]),
    "campaign": json_values,
}
ENVELOPE_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "sender": texts,
    "recipient": st.sampled_from(["u@example.com", "u", [], ["u@example.com"], ["u", 5], ["u@example.com", ""]]),
    "meta": changed(st.just({"tenant": "t"}), META_FIELDS),
    "num_attempts": SAVED_FIELDS["num_attempts"],
    "created": st.sampled_from(MOMENTS),
    "due": SAVED_FIELDS["due"],
    "schedule": st.none() | schedules,
}
MESSAGE: dict[str, Any] = {
    "sender": "s@example.com",
    "recipient": "u@example.com",
    "meta": {"xfer_queue_info": {"tenant": "t"}},
    "num_attempts": 3,
    "created": "2026-11-20T10:00:00Z",
}
some_envelopes = changed(envelopes() | st.just(MESSAGE), ENVELOPE_FIELDS)


def refusal_of_envelope(value: object) -> str | None:
    """Why a message with it can't be transferred and restored, or only restored where it was transferred before."""
    try:
        envelope = parse_envelope(orjson.dumps(value))
        if envelope["meta"].get("xfer_queue_info") is None:
            envelope = save(envelope, xfer_queue=XFER_QUEUE, from_queue="example.com")
        dump_envelope(restore(envelope, now=NOW, xfer_queue=XFER_QUEUE).envelope)
    except NotRestorable as error:
        return error.detail
    return None


UNSAID_OF_ENVELOPES = re.compile(
    "(?s)(xfer_queue_info is not valid: )?("
    "(created|due) (must be|is not) an RFC 3339 time.*"
    "|num_attempts (must be|is not) a whole number.*"
    "|the queue's name has no domain|a queue name must be 1 to 1024 bytes of UTF-8"
    "|the saved queue is an xfer queue itself"
    "|.* of a schedule is not a known time zone|start of a schedule must not be after its end"
    "|(start|end) of a schedule is not a time of day|a schedule permits no time"
    "|(first_attempt|expires) of a schedule is not .*"
    "|dow of a schedule has an unknown day"
    ")"
)


def is_unsaid_of_envelope(refusal: str, value: dict[str, Any]) -> bool:
    """Whether this is one of the refusals that no schema can say: `UNSAID["envelope"]`."""
    if UNSAID_OF_ENVELOPES.fullmatch(refusal) is None:
        return False
    if "num_attempts" in refusal:  # only the whole ones that are written with a fraction
        info = value["meta"].get("xfer_queue_info") or {}
        return any(type(where.get("num_attempts")) is float for where in (value, info))
    if "unknown day" in refusal:
        return any(text.endswith("\n") for text in texts_in(value))
    return True


@settings(max_examples=examples(300))
@given(some_envelopes | json_values)
@example(MESSAGE)
@example(MESSAGE | {"meta": {}})
@example(MESSAGE | {"num_attempts": 65_535})
@example(MESSAGE | {"num_attempts": 65_536})
@example(MESSAGE | {"num_attempts": -1})
@example(MESSAGE | {"recipient": []})
@example(MESSAGE | {"meta": {"tenant": 5, "xfer_queue_info": {}}})
@example(MESSAGE | {"meta": {"tenant": 5, "xfer_queue_info": None}})
@example(MESSAGE | {"schedule": {"start": "09:00"}})
@example(MESSAGE | {"meta": {}, "schedule": SCHEDULE})
def test_an_envelope_is_what_its_schema_takes(value: Any) -> None:
    refusal = refusal_of_envelope(value)
    if ENVELOPE.is_valid(value):
        assert refusal is None or is_unsaid_of_envelope(refusal, value), refusal
    else:
        assert refusal is not None


@given(envelopes())
def test_xferq_s_own_envelopes_are_what_the_schema_takes(envelope: dict[str, Any]) -> None:
    ENVELOPE.validate(envelope)
    if refusal_of_envelope(envelope) is None:
        moved = save(envelope, xfer_queue=XFER_QUEUE, from_queue="example.com")
        ENVELOPE.validate(moved)
        ENVELOPE.validate(restore(moved, now=NOW, xfer_queue=XFER_QUEUE).envelope)


# ---- log records


@given(envelopes(), texts_of_all_lengths.filter(lambda text: 0 < len(text.encode()) <= 1024), st.integers(0, 2**40))
def test_a_log_record_is_what_its_schema_takes(envelope: dict[str, Any], reason: str, size: int) -> None:
    record = orjson.loads(
        rebind_record(
            id="m", envelope=envelope, queue="t@example.com", from_queue=XFER_QUEUE, reason=reason, size=size, now=NOW,
            node_id="3fa85f64-5717-4562-b3fc-2c963f66afa6", meta_names=("tenant", "x*"), headers={"Subject": "s"},
        )
    )  # fmt: skip
    LOG_RECORD.validate(record)
    for name in record:
        assert not LOG_RECORD.is_valid({key: value for key, value in record.items() if key != name})
        assert not LOG_RECORD.is_valid(record | {name: object()})
