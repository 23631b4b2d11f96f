"""PATCH /api/admin/xfer/cancel/v1/{id}: what an operator wants of a command."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from api.access import caller_of
from api.body import CheckedRoute
from api.commands import STATUS_PATH
from api.link import KafkaLink
from api.models import EXAMPLE_ID, Done
from api.problem import Problem, shown
from api.responses import problems
from api.submission import CommandPublisher
from streams.domain.claim import Control
from streams.domain.command import TextField
from streams.domain.fields import OTHER_FIELDS
from streams.domain.status import name_of
from streams.domain.timestamp import format_time
from streams.domain.transitions import ENDED, can_be
from streams.ledger.keys import control_key

router = APIRouter(route_class=CheckedRoute, tags=["Commands"])


class Change(BaseModel):
    """What a command is to become."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"state": "withdrawn"}], **OTHER_FIELDS},
    )

    state: Literal["withdrawn"] = Field(description="`withdrawn`: it is not to begin any more")
    reason: TextField | None = Field(default=None, description="why; its status shows it")


@router.patch(
    STATUS_PATH + "/{id}",
    summary="Withdraw a command",
    response_model=Done,
    responses=problems(
        "malformed-body", "unknown-command", "has-begun", "too-slow", "too-large", "unsupported-media-type",
        "unsupported-encoding", "invalid-request", "unavailable",
    ),
)  # fmt: skip
async def change(
    request: Request, body: Change, id: Annotated[str, Path(description="the command's id", examples=[EXAMPLE_ID])]
) -> Done:
    """Withdraw a command that has not begun: a cancel before its claim, a transfer before it selects its queues.

    The worker that carries it out decides, at its turn; the command is then `refused`. Follow its status: where it
    begins at this very moment, it goes on.
    """
    link: KafkaLink = request.app.state.link
    publisher: CommandPublisher = request.app.state.publisher
    ledger = link.require()
    await link.refresh()
    status = ledger.status(id)
    if status is None:
        raise Problem("unknown-command", f"{shown(id)} is not a known command")
    await ledger.barrier(name_of(status))
    state = ledger.state(id)
    if ledger.control(id) is not None and (state == "refused" or can_be(state, "withdrawn")):
        return Done()  # withdrawn before
    if status.queue_name is None or not can_be(state, "withdrawn"):
        how = f"has ended: it is {state}" if state in ENDED else "has begun"
        raise Problem("has-begun", f"{id} {how}; only a command that has not begun can be withdrawn")
    control = Control(
        action="withdraw",
        queue_name=status.queue_name,
        reason=body.reason,
        requested_at=format_time(publisher.now()),
        requested_by=caller_of(request),
    )
    await ledger.record(name_of(status), [(control_key(id), control.to_bytes())])
    return Done()
