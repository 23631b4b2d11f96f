"""POST /api/admin/xfer/cancel/v1: cancel a transfer, as KumoMTA's crates/kumod/src/xfer/cancel.rs."""

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response

from api.access import caller_of
from api.body import JsonRoute
from api.models import Done, XferCancelRequest
from api.paths import CANCEL_PATH
from api.problem import Problem, shown
from api.responses import ACCEPTED, problems
from api.submission import Submissions, command_id
from streams.domain.command import ID_PATTERN, CancelCommand
from streams.domain.queue_name import is_xfer
from streams.domain.timestamp import format_time

router = APIRouter(route_class=JsonRoute, tags=["Commands"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        json_schema_extra={"pattern": ID_PATTERN},
        description="Becomes the command's id: 1 to 128 characters of `A-Z a-z 0-9 . _ -`. Repeating the same key with "
        "the same body changes nothing; with another body it is refused.",
    ),
]


@router.post(
    CANCEL_PATH,
    summary="Cancel a transfer",
    response_model=Done,
    responses={
        200: ACCEPTED,
        **problems(
            "malformed-body",
            "not-an-xfer-queue",
            "unknown-queue",
            "id-conflict",
            "too-slow",
            "too-large",
            "unsupported-media-type",
            "unsupported-encoding",
            "invalid-request",
            "unavailable",
        ),
    },
)
async def cancel(
    request: Request, response: Response, body: XferCancelRequest, idempotency_key: IdempotencyKey = None
) -> Done:
    """Take everything that is in the xfer queue now and put it back where it came from.

    Each message gets its original scheduling information back and leaves an AdminRebind record in the delivery
    log. The answer does not wait for this: follow the command's status. Messages that arrive in the queue later, or
    are in flight, are not affected; cancel again for those.
    """
    id = command_id(idempotency_key)
    if not is_xfer(body.queue_name):
        raise Problem("not-an-xfer-queue", f"{shown(body.queue_name)} is not an xfer queue")
    submissions: Submissions = request.app.state.submissions
    command = CancelCommand(
        id=id,
        queue_name=body.queue_name,
        reason=body.reason,
        requested_at=format_time(submissions.now()),
        requested_by=caller_of(request),
    )
    await submissions.submit(command, is_new=idempotency_key is None)
    point_at(response, id)
    return Done()


def point_at(response: Response, id: str) -> None:
    """Tell where the command's status is."""
    response.headers["X-Command-Id"] = id
    response.headers["Location"] = f"{CANCEL_PATH}/{id}"
