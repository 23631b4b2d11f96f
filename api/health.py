"""GET /livez, /readyz, /metrics: for whatever watches over this server."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.link import KafkaLink
from api.problem import Problem
from api.responses import problems
from streams.telemetry.exposition import exposed

router = APIRouter(tags=["Health"])


class Health(BaseModel):
    """It can work; `notes` say what is not as it should be all the same."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok", "workers": 2, "running": 1}]})

    status: str = "ok"
    workers: int | None = Field(
        default=None, description="how many worker processes are at work; left out where not known"
    )
    running: int | None = Field(default=None, description="how many commands have not ended")
    notes: list[str] | None = None


@router.get(
    "/livez",
    summary="Is the server alive?",
    response_model=Health,
    response_model_exclude_none=True,
    responses=problems(is_open=True),
)
async def livez() -> Health:
    """Yes, if this answers at all. Restarting the server helps only if it does not."""
    return Health()


@router.get(
    "/readyz",
    summary="Can it work?",
    response_model=Health,
    response_model_exclude_none=True,
    responses=problems("unavailable"),
)
async def readyz(request: Request) -> Health:
    """Whether commands can be accepted now; if not, `detail` says what is missing.

    They are accepted without a worker too, which then finds them; so that nobody is at work is a note.
    """
    link: KafkaLink = request.app.state.link
    problem = link.missing or link.failures.problem
    if problem is not None:
        raise Problem("unavailable", problem)
    return Health(workers=link.workers.count, running=link.ledger.running, notes=link.notes or None)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus' text format, or OpenMetrics",
            "content": {"text/plain": {}, "application/openmetrics-text": {}},
        },
        **problems(),
    },
)
async def metrics(request: Request) -> Response:
    """The metrics of this process, in the format that `Accept` names; a worker serves its own, by default on port 8001.

    Without any that is known, it is the text format 0.0.4, which everything reads.
    """
    content, content_type = exposed("api", ",".join(request.headers.getlist("accept")))
    return Response(content, headers={"Content-Type": content_type})
