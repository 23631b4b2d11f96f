"""Errors as RFC 9457 problem details: every one that the API answers with, in one table."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.models import FieldError
from api.suggestion import probable_queue
from streams.domain.command import comes_second, sentence
from streams.errors import XferqError

_log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
_MOST_SHOWN = 200

KINDS: Mapping[str, tuple[int, str, str]] = {
    "malformed-request": (400, "The request can't be read", "It is not HTTP/1.1, or its head is too large."),
    "malformed-body": (400, "The body can't be read", "It is not valid JSON in UTF-8, or does not match its encoding."),
    "not-an-xfer-queue": (400, "Not an xfer queue", "The name of an xfer queue ends with `.xfer.kumomta.internal`."),
    "unauthorized": (
        401,
        "Not authenticated",
        "Needed: a user and a password (HTTP basic authentication), a client certificate, or a trusted host.",
    ),
    "not-found": (404, "Nothing here", "This API has no such path."),
    "unknown-queue": (
        404,
        "The queue does not exist",
        "There is no such queue now; `xferq queues --xfer` lists those that exist.",
    ),
    "unknown-command": (
        404,
        "The command is not known",
        "There is no such command, or it finished more than 30 days ago.",
    ),
    "method-not-allowed": (405, "The method is not allowed here", "The `Allow` header lists those that are."),
    "too-slow": (408, "The request took too long", "By default, 10 seconds for its head and 30 more for its body."),
    "has-begun": (409, "The command has begun, or ended", "Only a command that has not begun can be withdrawn."),
    "id-conflict": (409, "The id belongs to another command", "An Idempotency-Key belongs to one request."),
    "too-large": (413, "The body is too large", "By default, at most 2 MiB, also after decompression."),
    "unsupported-media-type": (415, "The body is not JSON", "Send `Content-Type: application/json`."),
    "unsupported-encoding": (
        415,
        "The body's encoding is not supported",
        "Send it plain, or with `Content-Encoding: gzip`.",
    ),
    "wrong-host": (
        421,
        "Not this host",
        "Without a password, the URL must name localhost, the address itself, or one of `XFERQ_API_NAMES`.",
    ),
    "invalid-request": (422, "Fields are missing or not valid", "`errors` lists each of them."),
    "internal": (500, "A defect in xferq", "The server's log has the details."),
    "busy": (503, "Too many requests at once", "Try again after the seconds in `Retry-After`."),
    "unavailable": (503, "Kafka is not available", "Try again after the seconds in `Retry-After`."),
}
"""Kinds of problems: name to HTTP status, title, and what to know about them."""

_KIND_OF_STATUS = {400: "malformed-body", 404: "not-found", 405: "method-not-allowed", 413: "too-large"}


class Problem(Exception):
    """Answer with a problem of this kind."""

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        did_you_mean: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)
        self.did_you_mean = did_you_mean
        self.headers = dict(headers or {})
        if KINDS[kind][0] == 503:
            self.headers.setdefault("Retry-After", str(RETRY_AFTER_S))


def shown(text: str) -> str:
    """The text, shortened for a message; what may be of any length never comes back whole."""
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "..."


def answer(problem: Problem) -> Response:
    """The problem as a response."""
    status, title, _ = KINDS[problem.kind]
    content = {
        "type": f"/docs#{problem.kind}",
        "title": title,
        "status": status,
        "detail": problem.detail,
        "errors": [error.model_dump() for error in problem.errors],
    }
    if problem.did_you_mean is not None:
        content["did_you_mean"] = problem.did_you_mean
    return Response(orjson.dumps(content), status, problem.headers, MEDIA_TYPE)


def handle_problems(app: FastAPI) -> None:
    """Make problem details of everything that goes wrong while a request is answered."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(XferqError, _on_kafka)
    app.add_exception_handler(TimeoutError, _on_kafka)
    app.add_exception_handler(Exception, _on_defect)


def invalid(location: str, field: str, detail: str) -> Problem:
    """The request's field is not valid; `detail` is the sentence that says so."""
    error = FieldError.model_validate({"location": location, "field": shown(field), "detail": detail})
    return Problem("invalid-request", detail, errors=[error])


async def _on_problem(_: Request, error: Exception) -> Response:
    return answer(error) if isinstance(error, Problem) else _defect()


async def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return _defect()
    path = shown(request.url.path)
    if error.status_code == 404:
        return answer(Problem("not-found", f"there is nothing at {path}"))
    if error.status_code == 405:
        methods = _allowed(request) or set(dict(error.headers or {}).get("Allow", "").split(", "))
        allowed = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
        detail = f"{shown(request.method)} is not allowed at {path}, only {allowed}"
        return answer(Problem("method-not-allowed", detail, headers={"Allow": allowed}))
    kind = _KIND_OF_STATUS.get(error.status_code, "internal")
    return answer(Problem(kind, shown(str(error.detail)), headers=error.headers))


async def _on_invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        return _defect()
    found = [item for item in error.errors() if item["type"] != "not_an_xfer_queue"]
    if not found:  # all else is right
        name = error.errors()[0]["input"]
        meant = await probable_queue(request.app.state.link, name)
        return answer(Problem("not-an-xfer-queue", f"{shown(name)} is not an xfer queue", did_you_mean=meant))
    route = request.scope.get("route")
    errors = list(_field_errors(sorted(found, key=comes_second), getattr(route, "body_fields", ())))
    return answer(Problem("invalid-request", "; ".join(shown(item.detail) for item in errors[:3]), errors=errors))


async def _on_kafka(_: Request, error: Exception) -> Response:
    _log.warning("api.unavailable error=%s", error)
    return answer(Problem("unavailable", shown(str(error)) or "Kafka did not answer in time"))


async def _on_defect(_: Request, error: Exception) -> Response:
    return _defect()  # Starlette raises the error again once this is sent; uvicorn logs it


def _defect() -> Response:
    return answer(Problem("internal", "something went wrong that should not have"))


def _allowed(request: Request) -> set[str]:
    """All methods of a path: Starlette itself only names those of the first route that has it."""
    methods: set[str] = set()
    for route in request.app.state.endpoints:
        if route.matches(request.scope)[0] != Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return methods


def _field_errors(errors: Iterable[Any], known: Collection[str]) -> Iterable[FieldError]:
    for error in errors:
        location, *path = error["loc"]
        if location == "body" and not path:
            yield FieldError(location=location, field="", detail="the body must be a JSON object")
            continue
        field = "".join(f"[{part}]" if isinstance(part, int) else str(part) for part in path)
        detail = (
            sentence(cast(ErrorDetails, {**error, "loc": tuple(path)}), known)
            if location == "body"
            else f"{field} {_lowered(error['msg'])}"
        )
        yield FieldError(location=location, field=field, detail=detail)


def _lowered(message: str) -> str:
    return message.removeprefix("Input ")
