"""POST of a command, for each type: as KumoMTA's crates/kumod/src/xfer/cancel.rs and request.rs."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from api.access import caller_of
from api.body import CheckedRoute
from api.commands import ENDPOINTS, STATUS_PATH, Endpoint
from api.models import Done
from api.problem import invalid
from api.responses import ACCEPTED, problems
from api.submission import CommandPublisher, command_id
from streams.commands.admission import UNASKED
from streams.domain.command import ID_LETTERS, ID_PATTERN, is_unasked
from streams.domain.timestamp import format_time
from streams.settings.settings import Settings

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        json_schema_extra={"pattern": rf'{ID_PATTERN}|^"(?!\.{{1,2}}"){ID_LETTERS}"$'},
        description="Becomes the command's id: 1 to 128 characters of `A-Z a-z 0-9 . _ -`, in quotes or not. Repeating "
        "the same key with the same body changes nothing; with another body it is refused.",
    ),
]
_PROBLEMS = (
    *("id-conflict", "too-slow", "too-large", "unsupported-media-type", "unsupported-encoding", "invalid-request"),
    "unavailable",
)


def router_of_commands() -> APIRouter:
    """The endpoints of `api.commands`."""
    router = APIRouter(route_class=CheckedRoute, tags=["Commands"])
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
        _: IdempotencyKey = None,  # for the documentation: a header that is there twice is seen below only
    ) -> Done:
        publisher: CommandPublisher = request.app.state.publisher
        settings: Settings = request.app.state.settings
        keys = request.headers.getlist("Idempotency-Key")
        id = command_id(keys)
        command = endpoint.model(
            id=id,
            requested_at=format_time(publisher.now()),
            requested_by=caller_of(request),
            **body.model_dump(exclude_none=True),
        )
        if settings.require_everything and is_unasked(command):
            raise invalid("body", "everything", UNASKED)
        await publisher.submit(command, is_new=not keys)
        response.headers["X-Command-Id"] = id
        response.headers["Location"] = f"{endpoint.path}/{id}"
        return Done()

    return post
