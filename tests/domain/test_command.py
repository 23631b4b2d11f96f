from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from streams.domain.command import (
    MAX_COMMAND_BYTES,
    MAX_QUEUE_NAMES,
    TYPES,
    CancelCommand,
    Command,
    Criteria,
    InvalidCommand,
    StartCommand,
    is_command_id,
    is_unasked,
    parse_command,
    position_id,
    selects,
)
from streams.domain.fields import counted

from .strategies import OTHER_XFER_QUEUE, XFER_QUEUE, json_values, texts

FALLBACK = "xferq.commands-0-7-1795514400000"
NO_TYPE = f"type must be {' or '.join(TYPES)}"
CANCEL: dict[str, Any] = {"type": "xfer.cancel", "queue_name": XFER_QUEUE, "reason": "scaling down"}
START: dict[str, Any] = {"type": "xfer.start", "target": "http://Bogus.example", "reason": "scaling down"}
FIELDS = [
    "everything",
    "x_own",
    "unknown",
    "type",
    "queue_name",
    "reason",
    "id",
    "requested_at",
    "requested_by",
    "target",
    "queue_names",
    "tenant",
]


def parsed(fields: dict[str, Any]) -> Command:
    return parse_command(orjson.dumps(fields), fallback_id=FALLBACK)


def refused(value: bytes | None) -> InvalidCommand:
    with pytest.raises(InvalidCommand) as error:
        parse_command(value, fallback_id=FALLBACK)
    assert str(error.value) == error.value.reason
    return error.value


def refusal_of(value: bytes) -> str | None:
    """Why it is no command; None for one that is."""
    try:
        parse_command(value, fallback_id=FALLBACK)
    except InvalidCommand as error:
        return error.reason
    return None


def test_a_cancel() -> None:
    command = parsed(CANCEL | {"id": "a.B_9-", "requested_at": "2026-11-24T10:00:00Z", "requested_by": "ops"})
    assert isinstance(command, CancelCommand)
    assert (command.queue, command.queue_name, command.reason) == (XFER_QUEUE, XFER_QUEUE, "scaling down")
    assert (command.id, command.requested_at, command.requested_by) == ("a.B_9-", "2026-11-24T10:00:00Z", "ops")


def test_a_start() -> None:
    command = parsed(START | {"tenant": "t", "queue_names": ["a", "b"]})
    assert isinstance(command, StartCommand)
    assert (command.target, command.queue) == ("http://bogus.example/", XFER_QUEUE)
    assert (command.tenant, command.campaign, command.queue_names) == ("t", None, ["a", "b"])


@pytest.mark.parametrize("own", [{}, {"id": None}])
def test_without_an_id_it_gets_the_one_of_its_place(own: dict[str, Any]) -> None:
    assert parsed(CANCEL | own).id == FALLBACK


@pytest.mark.parametrize(
    ("base", "change", "reason"),
    [
        (START, {"tennant": "t"}, "tennant is not a known field; tenant?"),
        (START, {"Tenant": "t"}, "Tenant is not a known field; tenant?"),
        (START, {"queue_name": "q"}, "queue_name is not a known field; queue_names?"),
        (CANCEL, {"dry_run": True}, "dry_run is not a known field; known are reason, id, requested_at, "),
        (CANCEL, {"target": "http://a.example"}, "target is not a known field; "),
        (CANCEL, {"queue_nam": XFER_QUEUE, "queue_name": None}, "queue_nam is not a known field; queue_name?"),
        (CANCEL, {"": 1}, " is not a known field; "),
        (CANCEL, {"X_note": 1}, "X_note is not a known field; "),
        (CANCEL, {"x" * 500_000: 1}, "x" * 60 + " is not a known field; "),
    ],
)
def test_a_field_that_is_not_known(base: dict[str, Any], change: dict[str, Any], reason: str) -> None:
    error = refused(orjson.dumps(base | {"id": "mine"} | change))
    assert error.reason.startswith(reason)
    assert error.id == "mine"
    assert len(error.reason) < 250


def test_a_hundred_thousand_unknown_fields_cost_no_more_than_a_few() -> None:
    names = [f"x{number}" for number in range(100_000)]
    assert len(counted(dict.fromkeys(names, 1) | {"known": 1, "x_1": 1}, {"known"})) == 11


@pytest.mark.parametrize("base", [CANCEL, START])
@pytest.mark.parametrize("change", [{"x_note": 1}, {"x_": {"a": [None]}}, {"tennant": None}, {"later": None}])
def test_what_is_a_service_s_own_or_null_is_left_alone(base: dict[str, Any], change: dict[str, Any]) -> None:
    assert parsed(base | change) == parsed(base)
    assert parsed(base | change).content() == parsed(base).content()


@pytest.mark.parametrize(
    ("more", "name", "id"),
    [
        ('"reason": "again"', "reason", "mine"),
        ('"reason": null', "reason", "mine"),
        ('"\\u0072eason": "r"', "reason", "mine"),
        ('"type": "xfer.cancel"', "type", "mine"),
        ('"id": "other"', "id", FALLBACK),
        ('"x_note": 1, "x_note": 2', "x_note", "mine"),
    ],
)
def test_a_field_twice(more: str, name: str, id: str) -> None:
    value = orjson.dumps(CANCEL | {"id": "mine"})[:-1] + b", " + more.encode() + b"}"
    error = refused(value)
    assert (error.reason, error.id) == (f"{name} is there twice", id)


@pytest.mark.parametrize("more", ['{"a": 1, "a": 2}', "1" + "0" * 300, "0." + "1" * 5000, '[{"a": [1.5, null, true]}]'])
def test_what_is_within_a_service_s_own_field_is_nobody_else_s(more: str) -> None:
    assert parse_command(orjson.dumps(CANCEL)[:-1] + f', "x_own": {more}}}'.encode(), fallback_id=FALLBACK)


@pytest.mark.parametrize("depth", [900, 990, 1000, 1010, 1020, 1023, 1024])
def test_what_is_nested_deeply_is_a_command_or_refused(depth: int) -> None:
    value = orjson.dumps(CANCEL)[:-1] + b', "x_own": ' + b"[" * depth + b"]" * depth + b"}"
    assert refusal_of(value) in (None, "the command is not valid JSON")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"everything": True}, None),
        ({"everything": False, "tenant": "t"}, None),
        ({"everything": None}, None),
        ({"everything": True, "tenant": None}, None),
        ({"everything": True, "tenant": "t"}, "everything must be absent where there is a criterion"),
        ({"everything": True, "queue_names": ["q"]}, "everything must be absent where there is a criterion"),
        ({"everything": False}, "everything must be true where there is no criterion"),
        ({"everything": "yes"}, "everything must be true or false"),
        ({"everything": 1}, "everything must be true or false"),
    ],
)
def test_everything_is_asked_for_by_itself(change: dict[str, Any], reason: str | None) -> None:
    if reason is None:
        assert is_unasked(parsed(START | change)) == (change["everything"] is None)
    else:
        assert refused(orjson.dumps(START | change)).reason == reason


@pytest.mark.parametrize(
    "fields",
    [
        CANCEL | {"id": "1"},
        START | {"campaign": "c", "tenant": "t", "domain": "d", "routing_domain": "r", "queue_names": ["q"]},
        START | {"requested_at": "2026-11-24T10:00:00Z", "requested_by": "ops"},
    ],
)
def test_a_command_is_read_back_as_it_was_written(fields: dict[str, Any]) -> None:
    command = parsed(fields)
    assert parse_command(command.to_bytes(), fallback_id="other") == command
    assert None not in orjson.loads(command.to_bytes()).values()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"type": None}, NO_TYPE),
        ({"type": "xfer.stop"}, NO_TYPE),
        ({"type": ["xfer.cancel"]}, NO_TYPE),
        ({"queue_name": None}, "queue_name is missing"),
        ({"queue_name": 5}, "queue_name must be a string"),
        ({"queue_name": ""}, "queue_name must be 1 to 1024 bytes of UTF-8"),
        ({"queue_name": "x" * 1003 + ".xfer.kumomta.internal"}, "queue_name must be 1 to 1024 bytes of UTF-8"),
        ({"queue_name": "t@example.com"}, "t@example.com is not an xfer queue"),
        ({"queue_name": "\xe9" * 500}, "\xe9" * 200 + " is not an xfer queue"),
        ({"queue_name": "{name}%s"}, "{name}%s is not an xfer queue"),
        ({"reason": ""}, "reason must be 1 to 1024 bytes of UTF-8"),
        ({"reason": "\xe9" * 513}, "reason must be 1 to 1024 bytes of UTF-8"),
        ({"reason": ["r"]}, "reason must be a string"),
        ({"requested_at": "yesterday"}, "requested_at is not an RFC 3339 time"),
        ({"requested_at": 1795514400}, "requested_at must be a string"),
        ({"requested_by": ""}, "requested_by must be 1 to 1024 bytes of UTF-8"),
    ],
)
def test_a_field_that_is_not_valid(change: dict[str, Any], reason: str) -> None:
    error = refused(orjson.dumps(CANCEL | {"id": "mine"} | change))
    assert (error.reason, error.id) == (reason, "mine")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"target": "host"}, "target is not a valid URL"),
        ({"target": "ftp://host"}, "target is not an http or https URL"),
        ({"target": None}, "target is missing"),
        ({"campaign": ""}, "campaign must be 1 to 1024 bytes of UTF-8"),
        ({"domain": "x" * 1025}, "domain must be 1 to 1024 bytes of UTF-8"),
        ({"routing_domain": False}, "routing_domain must be a string"),
        ({"queue_names": "q"}, "queue_names must be a list of strings"),
        ({"queue_names": {"q": 1}}, "queue_names must be a list of strings"),
        ({"queue_names": ["q", None]}, "queue_names[1] must be a string"),
        ({"queue_names": []}, "queue_names must have at least 1 entry"),
        ({"queue_names": ["q"] * (MAX_QUEUE_NAMES + 1)}, "queue_names must have at most 10000 entries"),
    ],
)
def test_a_field_of_a_start_that_is_not_valid(change: dict[str, Any], reason: str) -> None:
    error = refused(orjson.dumps(START | {"id": "mine"} | change))
    assert (error.reason, error.id) == (reason, "mine")


@pytest.mark.parametrize(
    ("command", "field"), [(CANCEL, "queue_name"), (CANCEL, "reason"), (START, "target"), (START, "reason")]
)
def test_a_field_that_is_missing(command: dict[str, Any], field: str) -> None:
    error = refused(orjson.dumps({name: value for name, value in command.items() if name != field}))
    assert (error.reason, error.id) == (f"{field} is missing", FALLBACK)


@pytest.mark.parametrize("id", ["", "a b", "\xfc", "a/b", "a\n", "x" * 129, ".", "..", ".\n", 5, True, ["a"], {}])
def test_an_id_that_is_not_valid_is_not_used(id: object) -> None:
    error = refused(orjson.dumps(CANCEL | {"id": id}))
    assert error.reason.startswith("id must be ")
    assert error.id == FALLBACK


@pytest.mark.parametrize("id", ["a", "x" * 128, "0.9_A-z", "...", ".a", "a.", "..a"])
def test_an_id(id: str) -> None:
    assert is_command_id(id)
    assert parsed(CANCEL | {"id": id}).id == id


def test_the_id_of_a_place_is_one_however_long_the_topic() -> None:
    assert position_id("xferq.commands", 0, 7, 1795514400000) == FALLBACK
    long = position_id("x" * 249, 31, 2**63 - 1, 1795514400000)
    assert is_command_id(long)
    assert long.endswith("x-31-9223372036854775807-1795514400000")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "the command is empty"),
        (b"", "the command is not valid JSON"),
        (b"cancel", "the command is not valid JSON"),
        (b"\xff", "the command is not valid JSON"),
        (b'{"type": NaN}', "the command is not valid JSON"),
        (b'{"reason": "\\ud800"}', "the command is not valid JSON"),
        (b"[" * 1_000_000, "the command is not valid JSON"),
        (b'{"a":' * 100_000, "the command is not valid JSON"),
        (b"null", "the command is not a JSON object"),
        (b"[]", "the command is not a JSON object"),
        (b"{}", NO_TYPE),
        (b'{"type": 1' + b"0" * 300 + b"}", NO_TYPE),
        (b'{"type": "xfer.cancel", "type": "xfer.cance"}', "type is there twice"),
    ],
)
def test_what_is_no_command_at_all(value: bytes | None, reason: str) -> None:
    error = refused(value)
    assert (error.reason, error.id) == (reason, FALLBACK)


def test_the_largest_command_and_a_larger_one() -> None:
    command = b'{"type": "xfer.cancel", "queue_name": "http://a.example/.xfer.kumomta.internal", "reason": "r"}'
    assert parse_command(command.ljust(MAX_COMMAND_BYTES), fallback_id="x").id == "x"
    with pytest.raises(InvalidCommand, match="larger than 1,000,000 bytes"):
        parse_command(command.ljust(MAX_COMMAND_BYTES + 1), fallback_id="x")


@given(
    st.binary()
    | json_values.map(orjson.dumps)
    | st.builds(
        lambda base, change: orjson.dumps(base | change),
        st.sampled_from([CANCEL, START]),
        st.dictionaries(st.sampled_from(FIELDS), json_values | texts, max_size=3),
    )
)
def test_any_bytes_are_a_command_or_are_refused_in_a_sentence(value: bytes) -> None:
    try:
        command = parse_command(value, fallback_id=FALLBACK)
    except InvalidCommand as error:
        reason, id = error.reason, error.id
    else:
        reason, id = "a command", command.id
        assert parse_command(command.to_bytes(), fallback_id="other") == command
    assert 0 < len(reason) <= 250
    assert is_command_id(id)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CancelCommand(queue_name=XFER_QUEUE, reason="\ud800", id="a"),
        lambda: CancelCommand(queue_name="example.com", reason="r", id="a"),
        lambda: CancelCommand(queue_name=XFER_QUEUE, reason="r", id="a b"),
        lambda: StartCommand(target="http://\ud800", reason="r", id="a"),
        lambda: Criteria(tenant=""),
        lambda: Criteria(queue_names=[]),
        lambda: Criteria(tennant="t"),  # type: ignore[call-arg]
    ],
)
def test_the_models_themselves_refuse_it_too(make: Any) -> None:
    with pytest.raises(ValidationError):
        make()


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (CANCEL | {"id": "2", "requested_at": "2026-11-24T10:00:00Z", "requested_by": "ops"}, True),
        (CANCEL | {"x_own": 1, "unknown": None}, True),
        (CANCEL | {"reason": "another"}, False),
        (CANCEL | {"queue_name": OTHER_XFER_QUEUE}, False),
        (START, False),
    ],
)
def test_the_same_content(other: dict[str, Any], same: bool) -> None:
    assert (parsed(CANCEL).content() == parsed(other).content()) is same


@pytest.mark.parametrize(
    ("change", "same"),
    [({"target": "http://bogus.example/"}, True), ({"tenant": "t"}, False), ({"queue_names": ["q"]}, False)],
)
def test_the_same_content_of_a_start(change: dict[str, Any], same: bool) -> None:
    assert (parsed(START).content() == parsed(START | change).content()) is same


@pytest.mark.parametrize(
    ("criteria", "taken"),
    [
        (Criteria(), {"c:t@d", "t@d", "d", OTHER_XFER_QUEUE}),
        (Criteria(everything=True), {"c:t@d", "t@d", "d", OTHER_XFER_QUEUE}),
        (Criteria(tenant="t"), {"c:t@d", "t@d"}),
        (Criteria(domain="d", campaign="c"), {"c:t@d"}),
        (Criteria(queue_names=["d", "other"]), {"d"}),
        (Criteria(queue_names=["d"], tenant="t"), {"d"}),
        (Criteria(queue_names=[XFER_QUEUE]), set()),
        (Criteria(domain=XFER_QUEUE), set()),
        (Criteria(domain=OTHER_XFER_QUEUE), {OTHER_XFER_QUEUE}),
        (StartCommand(target="http://bogus.example", reason="r", id="a", tenant="t"), {"c:t@d", "t@d"}),
    ],
)
def test_the_queues_that_a_transfer_takes(criteria: Criteria, taken: set[str]) -> None:
    queues = {"c:t@d", "t@d", "d", XFER_QUEUE, OTHER_XFER_QUEUE}
    assert {queue for queue in queues if selects(criteria, queue, XFER_QUEUE)} == taken
