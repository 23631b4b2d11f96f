"""The HTTP API put together: routes, problems, the OpenAPI document, and its link to Kafka."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import control_v1, health, xfer_status_v1
from api.access import OPEN_PATH, Access, NoteCaller, RequireAccess
from api.docs_page import render
from api.endpoints import router_of_commands, router_of_own_paths
from api.limits import LimitHeads, LimitRequests, RefuseControls
from api.link import KafkaLink
from api.models import EXAMPLE_STATUSES, ProblemDetails
from api.problem import handle_problems
from api.request_line import ReadRequestLine
from api.spans import TracePosts
from api.submission import CommandPublisher
from streams import __version__
from streams.errors import Misconfigured
from streams.kafka.cluster import Cluster
from streams.settings.settings import Settings
from streams.telemetry.metrics import REQUESTS
from streams.telemetry.traces import close_traces, open_traces

OPENAPI_PATH = "/api-docs/openapi.json"
_TRACES_S = 2.0
"""How long the last spans may hold up the end."""
_ABOUT = (
    "Transfer queues on Kafka: move a mail platform's scheduled queues to another node, and undo that, each "
    "message exactly once. Every error is an RFC 9457 problem (application/problem+json). Clients on a trusted host "
    "(by default this machine) need neither a password nor a certificate."
)


def create_app(settings: Settings, kafka: Cluster | None = None, *, unprotected: bool = False) -> FastAPI:
    """The API as an ASGI application; it connects to Kafka when it starts up, and for as long as that takes.

    Args:
        kafka: a cluster to use, which stays the caller's to close; None: one of its own, by the settings.
        unprotected: answer everybody.

    Raises:
        Misconfigured: Python runs with -O, the file of users can't be used, settings of TLS or the login for Kafka
            are wrong by themselves, or traces are on and can't be.
    """
    if not __debug__:
        raise Misconfigured("don't run xferq with python -O or PYTHONOPTIMIZE: it disables safety checks")
    access = None if unprotected else Access(settings)
    cluster = kafka or Cluster(settings)
    open_traces(settings, "xferq-api")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        link = KafkaLink(cluster, settings)
        app.state.link = link
        app.state.publisher = CommandPublisher(link, settings)
        link.start()
        try:
            yield
        finally:
            await link.stop()
            if kafka is None:
                await cluster.close()
            if access is not None:
                access.close()
            await close_traces(_TRACES_S)

    app = FastAPI(
        title="xferq",
        version=__version__,
        description=_ABOUT,
        openapi_url=OPENAPI_PATH,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    handle_problems(app)
    app.add_middleware(TracePosts)
    app.add_middleware(RefuseControls)
    # Within the gate: a client that is not let in takes none of these places, nor learns that there are none left.
    app.add_middleware(LimitRequests, most=settings.api_requests)
    if access is None:
        app.add_middleware(NoteCaller)
    else:
        app.add_middleware(RequireAccess, access=access)
    app.add_middleware(LimitHeads, most_bytes=settings.api_head_bytes)
    app.add_middleware(CountRequests)
    app.add_middleware(ReadRequestLine)
    routers = [router_of_commands(), xfer_status_v1.router, control_v1.router, health.router]
    routers.insert(-1, router_of_own_paths([*xfer_status_v1.router.routes, *control_v1.router.routes]))
    for router in routers:
        app.include_router(router)
    app.state.settings = settings
    app.state.endpoints = [route for router in routers for route in router.routes]
    _document(app)
    return app


def _document(app: FastAPI) -> None:
    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            problem = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas = document["components"]["schemas"]
            schemas["CommandStatus"]["examples"] = EXAMPLE_STATUSES  # FastAPI leaves out nulls, which belong there
            schemas |= {**problem.pop("$defs", {}), "ProblemDetails": problem}
            document["components"]["securitySchemes"] = {
                "password": {"type": "http", "scheme": "basic", "description": "A user in XFERQ_API_USERS_FILE"},
                "certificate": {"type": "mutualTLS", "description": "A certificate issued by XFERQ_API_TLS_CLIENT_CA"},
            }
            document["security"] = [{"password": []}, {"certificate": []}]
            document["paths"][OPEN_PATH]["get"]["security"] = []
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
        return HTMLResponse(render(openapi()), headers=headers)

    @app.get("/", include_in_schema=False)
    async def home() -> Response:
        return RedirectResponse("/docs")


class CountRequests:
    """Counts every request by route and status, and tells browsers to take answers for what they say they are."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            REQUESTS.labels(route=route, status=str(status)).inc()
