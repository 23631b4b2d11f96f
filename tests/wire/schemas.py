"""JSON Schemas of what others write and read: commands, envelopes, log records, results.

They are made from the models and patterns that xferq itself uses. Everything that xferq accepts, its schema accepts.
The converse does not hold, as JSON Schema can't express everything: `UNSAID` lists the rest.

`python -m tests.wire.schemas` writes them into docs/schemas and docs/asyncapi.json; the rest of that one is written by
hand.
"""

import json
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import BaseModel

from api.models import CommandStatus
from streams.domain.command import TYPES
from streams.domain.envelope import MAX_ATTEMPTS, SAVED_INFO
from streams.domain.log_record import rebind_record
from streams.domain.queue_name import MAX_NAME_BYTES
from streams.domain.schedule import DAY_NUMBER, LOCAL_TIME, RESTRICTION
from streams.domain.timestamp import TIME_SCHEMA
from streams.domain.transitions import ENDED
from tests.pages import ROOT

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DEFINITIONS = "#/$defs/"
"""Where the definitions refer to each other."""

DOCUMENTS = {
    "command": tuple(model.__name__ for model in TYPES.values()),
    "envelope": ("Envelope",),
    "log-record": ("AdminRebind",),
    "result": ("Result",),
}
"""The documents by name: each describes a value that is one of these definitions."""

UNSAID: dict[str, tuple[str, ...]] = {
    "command": (
        "lengths are in bytes of UTF-8, not in characters",
        "`target` must be an http or https URL, and the name of its queue at most 1,024 bytes",
        "a time must exist: no 30th of February, no 25th hour, none outside the years 1 to 9999 in UTC",
        "where a pattern's `$` also matches before a final line break (as in Python), the schema lets that line break "
        "through",
        "if a key occurs twice in an object, the last one counts",
    ),
    "envelope": (
        "a time must exist, as in commands",
        "a whole number written with a fraction, such as `3.0`, is not an integer for xferq",
        "the name of the queue that a message belongs to, given in `queue` or made from the other fields and the "
        "recipient's domain, must have a domain and 1 to 1,024 bytes, and in the saved information must not be that of "
        "an xfer queue",
        "`tz` must be a zone of the tz database, `start` and `end` must be times of day with `start` not after `end`, "
        "and one of the next days must have such an hour",
        "anything nested more than 254 levels deep can't be written back",
        "where a pattern's `$` also matches before a final line break (as in Python), the schema lets that line break "
        "through",
    ),
}
"""What xferq refuses although its schema accepts it."""

_TEXT: Schema = {"type": "string"}
_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_BYTES}
_TIME: Schema = {"type": "string", **TIME_SCHEMA}
_UTC: Schema = {"type": "string", "format": "date-time", "pattern": "Z$"}
_ATTEMPTS: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_ATTEMPTS}


def document(name: str) -> Schema:
    """One of `DOCUMENTS`, complete."""
    kinds = DOCUMENTS[name]
    used = definitions()
    wanted, found = list(kinds), {}
    while wanted:
        kind = wanted.pop()
        found[kind] = used[kind]
        text = orjson.dumps(used[kind]).decode()
        wanted += [other for other in used if f'"{DEFINITIONS}{other}"' in text and other not in found]
    choice = [_ref(kind) for kind in kinds]
    body: Schema = choice[0] if len(choice) == 1 else {"oneOf": choice}
    unsaid = [f"Not expressed here: {text}." for text in UNSAID.get(name, ())]
    about = {"$comment": " ".join(unsaid)} if unsaid else {}
    return {"$schema": DIALECT, "title": f"xferq {name}", **about, **body, "$defs": dict(sorted(found.items()))}


def definitions() -> dict[str, Schema]:
    """All of them by name, in words that draft 7 and 2020-12 share: AsyncAPI speaks the older one."""
    return {
        **{model.__name__: _command(model) for model in TYPES.values()},
        "Envelope": _envelope(),
        "QueueParts": {
            "description": "the queue that the message belongs to: `queue`, or else the name made from the other "
            "fields and the recipient's domain",
            "properties": _parts(),
        },
        "SavedInfo": {
            "description": "what a transfer saves and a cancel restores; what is missing here is unset by the cancel",
            "type": "object",
            "properties": {
                **_parts(),
                "schedule": _or_null(_ref("Schedule")),
                "num_attempts": _ATTEMPTS,
                "due": _or_null(_TIME),
            },
        },
        "Schedule": _schedule(),
        "AdminRebind": _log_record(),
        "Result": _result(),
    }


def _command(model: type[BaseModel]) -> Schema:
    schema = model.model_json_schema(ref_template=f"{DEFINITIONS}{{model}}")
    schema["properties"]["id"] = {**_or_null(schema["properties"]["id"]), "default": None}
    # In the models the type has a default and the id has none; in a record it is the other way round.
    schema["required"] = sorted({*schema["required"], "type"} - {"id"})
    del schema["properties"]["type"]["default"]
    for field in schema["properties"].values():
        field.pop("description", None)  # for those who type a command: what a record may be is said by the rest
    found: Schema = _without_titles(schema)
    return found


def _envelope() -> Schema:
    return {
        "description": "the JSON in the header `envelope` of a message that xferq can transfer and restore",
        "type": "object",
        "properties": {
            "sender": _TEXT,
            "recipient": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]},
            "meta": {
                "type": "object",
                "properties": {SAVED_INFO: _or_null(_ref("SavedInfo"))},
            },
            "num_attempts": _ATTEMPTS,
            "created": _TIME,
            "due": _or_null(_TIME),
            "schedule": {"type": ["object", "null"]},
        },
        "required": ["sender", "recipient", "meta", "num_attempts", "created"],
        # What is saved replaces these when it is restored, so that they may be anything then.
        "if": {"properties": {"meta": {"required": [SAVED_INFO], "properties": {SAVED_INFO: {"type": "object"}}}}},
        "else": {"properties": {"meta": _ref("QueueParts"), "schedule": _or_null(_ref("Schedule"))}},
    }


def _schedule() -> Schema:
    day = "|".join("".join(f"[{letter.upper()}{letter}]" for letter in name) for name in DAY_NUMBER)
    time_of_day = {"type": "string", "pattern": f"^{LOCAL_TIME.pattern}$"}
    known: dict[str, Schema] = {
        "dow": {"type": "string", "pattern": f"^({day})(,({day}))*$"},
        "tz": _TEXT,
        "start": time_of_day,
        "end": time_of_day,
        "first_attempt": _TIME,
        "expires": _TIME,
    }
    return {
        "description": "days of the week and hours in a time zone, all four fields or none; a first attempt; an expiry",
        "type": "object",
        "properties": known,
        "additionalProperties": False,
        "anyOf": [
            {"required": list(RESTRICTION)},
            {"not": {"anyOf": [{"required": [name]} for name in RESTRICTION]}},
        ],
    }


def _log_record() -> Schema:
    varying: dict[str, Schema] = {
        "id": {"type": "string", "description": "the message's id; the record's key is the same, as bytes"},
        "sender": _TEXT,
        "recipient": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 2}]},
        "queue": {**_NAME, "description": "the queue that the message is now in"},
        "size": {"type": "integer", "minimum": 0, "description": "size of the message in bytes"},
        "response": {
            "type": "object",
            "properties": {
                "code": {"const": 250},
                "enhanced_code": {"type": "null"},
                "content": {
                    "type": "string",
                    "pattern": "^Rebound from [^\\r\\n]+ to [^\\r\\n]+: [^\\r\\n]+$",
                    "description": "`Rebound from QUEUE to QUEUE: REASON`, on one line",
                },
                "command": {"type": "null"},
            },
            "required": ["code", "enhanced_code", "content", "command"],
        },
        "timestamp": {"type": "integer", "description": "when it was moved, in seconds since 1970"},
        "event_time": {**_UTC, "description": "when it was moved"},
        "created": {"type": "integer", "description": "when the message was made, in seconds since 1970"},
        "created_time": {**_UTC, "description": "when the message was made"},
        "num_attempts": _ATTEMPTS,
        "meta": {"type": "object", "description": "metadata named in XFERQ_LOG_META"},
        "headers": {"type": "object", "description": "the message's headers named in XFERQ_LOG_HEADERS"},
        "reception_protocol": _or_null(_TEXT),
        "nodeid": {"type": "string", "format": "uuid"},
    }
    return {
        "description": "a message has been moved to another queue; KumoMTA's log record of the same name",
        "type": "object",
        # What is not said to vary is always what it is in this one.
        "properties": {name: varying.get(name, _only(value)) for name, value in _some_record().items()},
        "required": list(_some_record()),
    }


def _result() -> Schema:
    status = CommandStatus.model_json_schema()
    properties = status["properties"] | {
        "state": {"enum": ["claimed", *sorted(ENDED)], "description": "nothing follows but after `claimed`"},
        "revision": {"type": "integer", "minimum": 1, "description": "rises with each record of the command"},
    }
    found: Schema = _without_titles({
        "description": "what has become of a command: the status as HTTP shows it, when it is claimed and at its end",
        "type": "object",
        "properties": properties,
        "required": list(properties),
    })  # fmt: skip
    return found


def _some_record() -> dict[str, Any]:
    envelope = {"sender": "", "recipient": "", "meta": {}, "num_attempts": 0, "created": "1970-01-01T00:00:00Z"}
    now = datetime.fromtimestamp(0, UTC)
    record = rebind_record(id="", envelope=envelope, queue="", from_queue="", reason="", size=0, now=now, node_id="")
    found: dict[str, Any] = orjson.loads(record)
    return found


def _only(value: object) -> Schema:
    return {"type": "null"} if value is None else {"const": value}


def _parts() -> dict[str, Schema]:
    return {part: _or_null(_TEXT) for part in ("queue", "routing_domain", "tenant", "campaign")}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> Schema:
    return {"$ref": DEFINITIONS + name}


def _without_titles(schema: Any) -> Any:
    """The schema without pydantic's titles, which only repeat the names."""
    if isinstance(schema, dict):
        return {
            key: _without_titles(value)
            for key, value in schema.items()
            if not (key == "title" and isinstance(value, str))
        }
    return [_without_titles(item) for item in schema] if isinstance(schema, list) else schema


def components() -> dict[str, Schema]:
    """All definitions, as they refer to each other in docs/asyncapi.json."""
    found: dict[str, Schema] = json.loads(json.dumps(definitions()).replace(DEFINITIONS, "#/components/schemas/"))
    return found


def to_text(value: Schema) -> str:
    """A document as it is written down."""
    return json.dumps(value, indent=2) + "\n"


if __name__ == "__main__":
    for name in DOCUMENTS:
        (ROOT / "docs" / "schemas" / f"{name}.json").write_text(to_text(document(name)), encoding="utf-8")
    asyncapi = ROOT / "docs" / "asyncapi.json"
    written = json.loads(asyncapi.read_text(encoding="utf-8"))
    written["components"]["schemas"] = components()
    asyncapi.write_text(to_text(written), encoding="utf-8")
