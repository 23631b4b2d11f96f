"""GET /api/admin/xfer/cancel/v1 and /{id}: what has become of commands, whatever their type."""

from itertools import islice
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response

from api.body import CheckedRoute
from api.commands import STATUS_PATH
from api.link import KafkaLink
from api.models import EXAMPLE_ID, CommandStatus
from api.problem import Problem, shown
from api.responses import problems
from streams.errors import Unavailable

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100

router = APIRouter(route_class=CheckedRoute, tags=["Status"])


@router.get(
    STATUS_PATH,
    summary="List commands, newest first",
    response_model=list[CommandStatus],
    responses={
        200: {
            "description": "The commands, newest first",
            "headers": {"Link": {"description": 'The next page, `rel="next"`', "schema": {"type": "string"}}},
        },
        **problems("unknown-command", "invalid-request", "unavailable"),
    },
)
async def list_statuses(
    request: Request,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="at most this many commands")] = DEFAULT_LIMIT,
    before: Annotated[str | None, Query(description="a command's id: the list starts after it")] = None,
    queue_name: Annotated[str | None, Query(description="only commands about this xfer queue")] = None,
) -> list[CommandStatus]:
    """Commands of all types, including those that were refused, until 30 days after they ended."""
    link: KafkaLink = request.app.state.link
    ledger = link.ledger
    await link.refresh()
    statuses = ledger.statuses()
    if queue_name is not None:
        statuses = [status for status in statuses if status.queue_name == queue_name or status.id == before]
    start = 0
    if before is not None:
        start = next((index for index, status in enumerate(statuses, 1) if status.id == before), 0)
        if start == 0:
            raise Problem("unknown-command", f"{shown(before)} is not a known command")
    page = list(islice(statuses, start, start + limit))
    if start + limit < len(statuses):
        query = {"limit": limit, "before": page[-1].id} | ({} if queue_name is None else {"queue_name": queue_name})
        response.headers["Link"] = f'<{STATUS_PATH}?{urlencode(query)}>; rel="next"'
    return [CommandStatus.of(link.status(status.id) or status) for status in page]


@router.get(
    STATUS_PATH + "/{id}",
    summary="A command's status",
    response_model=CommandStatus,
    responses=problems("unknown-command", "invalid-request", "unavailable"),
)
async def get_status(
    request: Request, id: Annotated[str, Path(description="the command's id", examples=[EXAMPLE_ID])]
) -> CommandStatus:
    """How far the command has come, with the current counts."""
    link: KafkaLink = request.app.state.link
    status = link.status(id)
    if status is None:
        is_fresh = await link.refresh()  # it may have been taken a moment ago, by this server or another one
        status = link.status(id)
        if status is None and not is_fresh:
            raise Unavailable(link.missing or "the ledger can't be read to its end now")
    if status is None:
        raise Problem("unknown-command", f"{shown(id)} is not a known command")
    return CommandStatus.of(status)
