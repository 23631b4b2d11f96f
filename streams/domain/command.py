"""Commands: one model for each type. Any client may have published them, so nothing in them is trusted."""

import re
from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from streams.domain.fields import OTHER_FIELDS, FieldTwice, counted, read_json, unknown
from streams.domain.queue_name import XFER_SUFFIX, QueueName, is_xfer
from streams.domain.target import normalise_target, xfer_queue_of
from streams.domain.timestamp import TIME_SCHEMA, parse_time

MAX_TEXT_BYTES = 1024
"""The longest queue name, reason or criterion, in bytes of UTF-8 (inclusive)."""

MAX_COMMAND_BYTES = 1_000_000
"""The largest command, in bytes of JSON (inclusive): a record of Kafka's default maximum size, 1 MiB, holds it
with its key in the ledger, which keeps commands that wait for long."""

MAX_QUEUE_NAMES = 10_000
"""The most queues that one transfer may name; a record of the default maximum size holds no more."""

MAX_ID_LENGTH = 128
ID_LETTERS = f"[A-Za-z0-9._-]{{1,{MAX_ID_LENGTH}}}"
ID_PATTERN = rf"^(?!\.{{1,2}}$){ID_LETTERS}$"
"""A command's id, for documentation; `is_command_id` is what decides."""
ID_RULE = f"must be 1 to {MAX_ID_LENGTH} characters of A-Z a-z 0-9 . _ -, and neither . nor .."
"""The same in words. A path that ends in a dot segment is another path for every client, so no status could be read."""

_ID = re.compile(ID_PATTERN)
_MOST_SHOWN = 200
_BYTES = f"1 to {MAX_TEXT_BYTES:,} bytes of UTF-8"
_OF_A_TEXT: dict[str, Any] = {"minLength": 1, "maxLength": MAX_TEXT_BYTES}


def is_command_id(text: str) -> bool:
    """Whether this may be a command's id: 1 to 128 characters of `A-Z a-z 0-9 . _ -`, and no dot segment of a path."""
    return _ID.fullmatch(text) is not None


def position_id(topic: str, partition: int, offset: int, timestamp_ms: int) -> str:
    """The id of a command that has none: where it is and since when, at most 128 characters from the end."""
    return f"{topic}-{partition}-{offset}-{timestamp_ms}"[-MAX_ID_LENGTH:]


def _bounded(text: str) -> str:
    if not 0 < len(text.encode()) <= MAX_TEXT_BYTES:
        raise ValueError(f"must be 1 to {MAX_TEXT_BYTES} bytes of UTF-8")
    return text


def _xfer_queue_name(name: str) -> str:
    if not is_xfer(name):
        raise PydanticCustomError("not_an_xfer_queue", "{name} is not an xfer queue", {"name": name[:_MOST_SHOWN]})
    return name


def _identifier(text: str) -> str:
    if not is_command_id(text):
        raise ValueError(ID_RULE)
    return text


def _goes_alone(everything: bool, info: ValidationInfo) -> bool:
    has_criterion = any(info.data.get(name) is not None for name in CRITERIA)
    if everything is has_criterion:
        raise ValueError(f"must be {'absent where there is a' if everything else 'true where there is no'} criterion")
    return everything


def _rfc3339(text: str) -> str:
    parse_time(text)
    return text


# What JSON Schema can say of them stands beside what decides.
TextField = Annotated[str, AfterValidator(_bounded), Field(json_schema_extra=_OF_A_TEXT)]
TargetField = Annotated[str, AfterValidator(normalise_target)]
XferQueueNameField = Annotated[
    TextField,
    AfterValidator(_xfer_queue_name),
    Field(json_schema_extra={**_OF_A_TEXT, "pattern": f"{re.escape(XFER_SUFFIX)}$"}),
]
CommandId = Annotated[str, AfterValidator(_identifier), Field(json_schema_extra={"pattern": ID_PATTERN})]
TimeField = Annotated[str, AfterValidator(_rfc3339), Field(json_schema_extra=TIME_SCHEMA)]


CRITERIA = ("campaign", "tenant", "domain", "routing_domain", "queue_names")
"""The fields that say which queues a transfer takes."""


class InvalidCommand(ValueError):
    """The command is refused: `reason` is one short sentence, `id` what it is to be recorded under."""

    def __init__(self, reason: str, id: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.id = id


class Criteria(BaseModel):
    """Which queues a transfer takes: all of them, where nothing is said.

    `queue_names`, where there are any, are the only ones; the other criteria are not looked at then. kcli sends no
    empty list; whoever does has found no queue, and does not mean all of them. `everything` stands for itself, as
    kcli's option does.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", json_schema_extra={**OTHER_FIELDS})

    campaign: TextField | None = Field(None, description="only queues of this campaign")
    tenant: TextField | None = Field(None, description="only queues of this tenant")
    domain: TextField | None = Field(None, description="only queues for this domain")
    routing_domain: TextField | None = Field(None, description="only queues with this routing domain")
    queue_names: Annotated[list[TextField], Field(min_length=1, max_length=MAX_QUEUE_NAMES, fail_fast=True)] | None = (
        Field(None, description="only these queues; the other criteria are then ignored")
    )
    everything: Annotated[bool, AfterValidator(_goes_alone)] | None = Field(
        None, description="take every scheduled queue; not together with a criterion"
    )


def selects(criteria: Criteria, queue_name: str, target_queue: str) -> bool:
    """Whether a transfer to `target_queue` takes what is in the queue.

    As in KumoMTA (crates/kumod/src/xfer/request.rs), other xfer queues are scheduled queues like any: their
    messages change targets. Never the target's own queue, which would be drained into itself for ever.
    """
    if queue_name == target_queue:
        return False
    if criteria.queue_names is not None:
        return queue_name in criteria.queue_names
    return QueueName.parse(queue_name).matches(
        campaign=criteria.campaign,
        tenant=criteria.tenant,
        domain=criteria.domain,
        routing_domain=criteria.routing_domain,
    )


class Command(BaseModel):
    """What the commands of all types have.

    A type's own fields, and its reason, are what the HTTP API and the command line take, with these descriptions.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", json_schema_extra={**OTHER_FIELDS})
    summary: ClassVar[str]
    """In a few words, for headings."""
    needs_queue: ClassVar[bool] = False
    """Whether the API refuses it if its queue does not exist."""

    reason: TextField = Field(description=f"why, for the delivery log; {_BYTES}")
    id: CommandId
    requested_at: TimeField | None = None
    requested_by: TextField | None = None
    expires_at: TimeField | None = Field(
        default=None, description="when it is too late to begin (RFC 3339); what has begun by then goes on"
    )
    type: str

    @property
    @abstractmethod
    def queue(self) -> str:
        """The xfer queue that this is about."""

    def to_bytes(self) -> bytes:
        """The command as JSON, without what is not set."""
        return orjson.dumps(self.model_dump(exclude_none=True))

    def content(self) -> str:
        """What is asked for, as JSON with sorted keys: equal for equal requests, by any client at any time."""
        fields = self.model_dump(exclude={"id", "requested_at", "requested_by"}, exclude_none=True)
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS).decode()


class CancelCommand(Command):
    """Take everything out of an xfer queue and put it back where it came from."""

    summary = "Cancel a transfer"
    needs_queue = True

    type: Literal["xfer.cancel"] = "xfer.cancel"
    queue_name: XferQueueNameField = Field(description=f"the xfer queue; {_BYTES}")

    @property
    def queue(self) -> str:
        """The xfer queue that this is about."""
        return self.queue_name


class StartCommand(Command, Criteria):
    """Move the queues that match the criteria into the xfer queue of a target."""

    summary = "Start a transfer"

    type: Literal["xfer.start"] = "xfer.start"
    target: TargetField = Field(
        description="where the messages go: an http or https URL. It is normalised as in browsers, and names "
        f"the xfer queue: `{{target}}{XFER_SUFFIX}`"
    )

    @property
    def queue(self) -> str:
        """The xfer queue that this is about."""
        return xfer_queue_of(self.target)


def is_unasked(command: Command) -> bool:
    """Whether it takes every queue without saying so: KumoMTA's meaning of a transfer without a criterion."""
    return (
        isinstance(command, Criteria)
        and not command.everything
        and all(getattr(command, name) is None for name in CRITERIA)
    )


TYPES: Mapping[str, type[Command]] = {
    model.model_fields["type"].default: model for model in (CancelCommand, StartCommand)
}
"""All types of commands. Beside it, a type has a row in `streams.commands` and one in `api.commands`."""


def parse_command(value: bytes | None, *, fallback_id: str) -> Command:
    """The command in a record's value; without an id of its own it gets `fallback_id`.

    Raises:
        InvalidCommand: it is not a command. Its id is the command's own where at least that is valid.
    """
    if value is None:
        raise InvalidCommand("the command is empty", fallback_id)
    if len(value) > MAX_COMMAND_BYTES:
        raise InvalidCommand(f"the command is larger than {MAX_COMMAND_BYTES:,} bytes", fallback_id)
    twice: FieldTwice | None = None
    try:
        fields = read_json(value)
    except orjson.JSONDecodeError:
        raise InvalidCommand("the command is not valid JSON", fallback_id) from None
    except FieldTwice as error:
        fields, twice = error.fields, error
    if type(fields) is not dict:
        raise InvalidCommand("the command is not a JSON object", fallback_id)
    own_id = fields.get("id") if twice is None or twice.name != "id" else None
    id = own_id if type(own_id) is str and is_command_id(own_id) else fallback_id
    if twice is not None:
        raise InvalidCommand(str(twice), id)
    kind = fields.get("type")
    model = TYPES.get(kind) if type(kind) is str else None
    if model is None:
        raise InvalidCommand(f"type must be {' or '.join(TYPES)}", id)
    try:
        return model.model_validate({"id": id, **counted(fields, model.model_fields)})
    except ValidationError as error:
        wrong = min(error.errors(include_url=False, include_input=False), key=comes_second)
        raise InvalidCommand(sentence(wrong, model.model_fields), id) from None


def comes_second(error: ErrorDetails) -> bool:
    """Whether it is told after unknown fields: that another one is missing may follow from these."""
    return error["type"] != "extra_forbidden"


def sentence(error: ErrorDetails, known: Collection[str]) -> str:
    """One sentence about a field, where these are known; never the input itself, which may be of any size."""
    field = "".join(f"[{part}]" if type(part) is int else str(part) for part in error["loc"])
    match error["type"]:
        case "not_an_xfer_queue":
            return error["msg"]
        case "extra_forbidden":
            return unknown(field, known)
        case "missing":
            return f"{field} is missing"
        case "string_type" | "string_unicode":
            return f"{field} must be a string"
        case "list_type":
            return f"{field} must be a list of strings"
        case "bool_type":
            return f"{field} must be true or false"
        case "too_short":
            return f"{field} must have at least 1 entry"
        case "too_long":
            return f"{field} must have at most {MAX_QUEUE_NAMES} entries"
        case "value_error":
            text = str(error["ctx"]["error"])
            return f"{field} {text}" if text.startswith("must ") else f"{field} is {text}"
        case _:
            return f"{field} is not valid"
