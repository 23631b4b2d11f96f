"""POST of a command, for each type: as KumoMTA's crates/kumod/src/xfer/cancel.rs and request.rs."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from api.access import caller_of
from api.body import JsonRoute
from api.commands import ENDPOINTS, STATUS_PATH, Endpoint
from api.models import Done
from api.responses import ACCEPTED, problems
from api.submission import CommandPublisher, command_id
from streams.domain.command import ID_PATTERN
from streams.domain.timestamp import format_time

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        json_schema_extra={"pattern": ID_PATTERN},
        description="Becomes the command's id: 1 to 128 characters of `A-Z a-z 0-9 . _ -`. Repeating the same key with "
        "the same body changes nothing; with another body it is refused.",
    ),
]
_PROBLEMS = (
    *("id-conflict", "too-slow", "too-large", "unsupported-media-type", "unsupported-encoding", "invalid-request"),
    "unavailable",
)


def router_of_commands() -> APIRouter:
    """The endpoints of `api.commands`."""
    router = APIRouter(route_class=JsonRoute, tags=["Commands"])
    for type, endpoint in ENDPOINTS.items():
        of_its_queue = ("not-an-xfer-queue", "unknown-queue") if endpoint.model.needs_queue else ()
        router.post(
            endpoint.path,
            name=type.removeprefix("xfer."),
            summary=endpoint.model.summary,
            description=endpoint.about,
            response_model=Done,
            responses={200: ACCEPTED, **problems("malformed-body", *of_its_queue, *_PROBLEMS)},
        )(_post(endpoint))
    return router


def router_of_own_paths(statuses: Iterable[BaseRoute]) -> APIRouter:
    """What there is of a command under the path of cancels, for each other type under its own path, too."""
    router = APIRouter()
    routes = [route for route in statuses if isinstance(route, APIRoute) and route.path == f"{STATUS_PATH}/{{id}}"]
    for endpoint in ENDPOINTS.values():
        for route in routes if endpoint.path != STATUS_PATH else ():
            router.add_api_route(
                f"{endpoint.path}/{{id}}",
                route.endpoint,
                methods=[*(route.methods or ())],
                route_class_override=type(route),
                **{name: getattr(route, name) for name in ("summary", "tags", "response_model", "responses")},
            )
    return router


def _post(endpoint: Endpoint) -> Callable[..., Awaitable[Done]]:
    async def post(
        request: Request,
        response: Response,
        body: endpoint.body,  # type: ignore[name-defined]  # for FastAPI, which reads it when the route is made
        idempotency_key: IdempotencyKey = None,
    ) -> Done:
        publisher: CommandPublisher = request.app.state.publisher
        id = command_id(idempotency_key)
        command = endpoint.model(
            id=id,
            requested_at=format_time(publisher.now()),
            requested_by=caller_of(request),
            **body.model_dump(exclude_none=True),
        )
        await publisher.submit(command, is_new=idempotency_key is None)
        response.headers["X-Command-Id"] = id
        response.headers["Location"] = f"{endpoint.path}/{id}"
        return Done()

    return post
