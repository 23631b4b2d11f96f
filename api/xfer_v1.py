"""POST /api/admin/xfer/v1: start a transfer, as KumoMTA's crates/kumod/src/xfer/request.rs."""

from fastapi import APIRouter, Request, Response

from api.access import caller_of
from api.body import JsonRoute
from api.models import Done, XferRequest
from api.paths import START_PATH
from api.responses import ACCEPTED, problems
from api.submission import Submissions, command_id
from api.xfer_cancel_v1 import IdempotencyKey, point_at
from streams.domain.command import StartCommand
from streams.domain.timestamp import format_time

router = APIRouter(route_class=JsonRoute, tags=["Commands"])


@router.post(
    START_PATH,
    summary="Start a transfer",
    response_model=Done,
    responses={
        200: ACCEPTED,
        **problems(
            "malformed-body",
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
async def start(
    request: Request, response: Response, body: XferRequest, idempotency_key: IdempotencyKey = None
) -> Done:
    """Move everything that is in the matching scheduled queues now into the xfer queue of a target.

    Without any criterion, this means EVERY scheduled queue. Each message's scheduling information is saved with it,
    so that a cancel can restore it. The answer does not wait for the move: follow the command's status.
    """
    submissions: Submissions = request.app.state.submissions
    id = command_id(idempotency_key)
    command = StartCommand(
        id=id,
        requested_at=format_time(submissions.now()),
        requested_by=caller_of(request),
        **body.model_dump(exclude_none=True),
    )
    await submissions.submit(command, is_new=idempotency_key is None)
    point_at(response, id)
    return Done()
