"""What the OpenAPI document says about headers and problems, for all endpoints alike."""

from typing import Any

from api.problem import KINDS, MEDIA_TYPE

_COMMAND_ID = {"description": "The command's id; use it to query the status", "schema": {"type": "string"}}
_LOCATION = {"description": "The path of the command's status", "schema": {"type": "string"}}

ACCEPTED: dict[str, Any] = {
    "description": "The command is durable. It will be carried out, whatever happens to this server.",
    "headers": {"X-Command-Id": _COMMAND_ID, "Location": _LOCATION},
}


_EVERYWHERE = ("malformed-request", "too-slow", "busy")
_GUARDED = ("unauthorized", "wrong-host")
_CHALLENGE = {"description": "How to authenticate", "schema": {"type": "string"}}


def problems(*kinds: str, is_open: bool = False) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an endpoint that may answer with these kinds of problems, and with those that all may.

    Args:
        is_open: everybody may ask it.
    """
    by_status: dict[int | str, dict[str, Any]] = {}
    for kind in dict.fromkeys((*kinds, *_EVERYWHERE, *(() if is_open else _GUARDED))):
        status, title, about = KINDS[kind]
        examples = {
            kind: {"value": {"type": f"/docs#{kind}", "title": title, "status": status, "detail": about, "errors": []}}
        }
        known = by_status.get(status)
        if known is not None:
            known["description"] += f"; or: {title}"
            known["content"][MEDIA_TYPE]["examples"] |= examples
            continue
        content = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}, "examples": examples}
        by_status[status] = {"description": title, "content": {MEDIA_TYPE: content}}
        if status == 401:
            by_status[status]["headers"] = {"WWW-Authenticate": _CHALLENGE}
        if status == 503:
            by_status[status]["headers"] = {
                "Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer"}}
            }
    return by_status
