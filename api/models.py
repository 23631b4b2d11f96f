"""What the HTTP API takes and gives, with the limits and examples that its documentation shows."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.commands import EXAMPLE_QUEUE
from streams.domain.command import TYPES
from streams.domain.result import shown
from streams.domain.status import Status
from streams.domain.transitions import State

EXAMPLE_ID = "6f1f6d1c8a554c3f9f0a6f3a8a3f4a0e"
EXAMPLE_STATUSES: list[Any] = [
    {
        "id": EXAMPLE_ID,
        "type": "xfer.cancel",
        "queue_name": EXAMPLE_QUEUE,
        "reason": "mx2 is back",
        "state": "done",
        "detail": None,
        "queues": 1,
        "total": 4000,
        "restored": 3999,
        "returned": 1,
        "returned_reasons": {"no_saved_info": 1},
        "offsets_total": 4002,
        "offsets_done": 4002,
        "requested_at": "2026-11-24T10:00:00Z",
        "requested_by": "127.0.0.1",
        "expires_at": None,
        "claimed_at": "2026-11-24T10:00:00.052000Z",
        "finished_at": "2026-11-24T10:00:01.210000Z",
    }
]


class Done(BaseModel):
    """An empty object: what was asked for is durable."""


class CommandStatus(BaseModel):
    """The status of a command. Values that are not known (yet) are null."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={"examples": EXAMPLE_STATUSES},
    )

    id: str = Field(description="the command's id")
    type: Annotated[str, Field(json_schema_extra={"enum": [*TYPES]})] | None = Field(
        description="null for a record that was not a command at all"
    )
    queue_name: str | None = Field(description="the xfer queue that the command is about")
    reason: str | None = Field(description="the reason that was given")
    state: State = Field(
        description="`accepted`: recorded; `waiting`: a worker has it, and `detail` says what it waits for; "
        "`claimed`: the messages are taken out of the queue and are being moved; `done`; `refused`: `detail` says why"
    )
    detail: str | None = Field(description="why it was refused, or what it waits for")
    queues: int | None = Field(description="how many queues were claimed; null until all of them are")
    total: int | None = Field(description="how many messages there were: `restored` + `returned`; null until done")
    restored: int = Field(description="messages moved so far (by a cancel: restored)")
    returned: int = Field(description="messages that could not be moved and were put back at the end of the queue")
    returned_reasons: dict[str, int] = Field(description="how many were returned, by reason")
    offsets_total: int | None = Field(description="how many Kafka offsets were claimed: at least as many as messages")
    offsets_done: int | None = Field(description="how many of these offsets have been processed")
    requested_at: str | None = Field(description="RFC 3339, UTC")
    requested_by: str | None = Field(description="who asked; over HTTP a certificate's subject, a user or an address")
    expires_at: str | None = Field(description="when it is too late to begin: RFC 3339; null where it does not say")
    claimed_at: str | None = Field(description="when the messages were claimed: RFC 3339, UTC")
    finished_at: str | None = Field(description="RFC 3339, UTC")

    @classmethod
    def of(cls, status: Status) -> "CommandStatus":
        """What people see of a status."""
        return cls.model_validate(shown(status))


class FieldError(BaseModel):
    """What is wrong with one field."""

    location: Literal["body", "query", "path", "header"] = Field(description="where the field is")
    field: str = Field(description="its name; empty for the whole body")
    detail: str = Field(description="what is wrong")


class ProblemDetails(BaseModel):
    """An error, as defined by RFC 9457."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "/docs#unknown-queue",
                    "title": "The queue does not exist",
                    "status": 404,
                    "detail": f"{EXAMPLE_QUEUE} is not a current scheduled queue",
                    "errors": [],
                }
            ]
        }
    )

    type: str = Field(description="the kind of problem: a reference to its description")
    title: str = Field(description="the kind of problem in words")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="what is wrong in this case")
    errors: list[FieldError] = Field([], description="the fields that are wrong, if any")
