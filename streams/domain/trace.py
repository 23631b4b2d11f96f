"""Trace context as W3C has it: which trace a command belongs to, in two headers that anybody may have made up.

`traceparent` is `00-<trace id>-<span id>-<flags>` in hex; `tracestate` is what tracing systems add to it. What is not
exactly that counts as not being there: no command is refused for it, and nothing of it is kept. OpenTelemetry's own
propagator is more tolerant, of blanks, other bytes and lengths: what comes from outside passes through here first.

A context is a dict of the two headers, as propagators have it: without `tracestate` where that is empty, and empty
where there is no context.
"""

import re
from collections.abc import Iterable

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
MAX_TRACESTATE = 512
"""The longest `tracestate`, in characters: as much as everybody has to pass on."""

_PARENT_LENGTH = 55
_MAX_PARENT = 256
_PARENT = re.compile("([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[ -~]*)?")
_VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER = re.compile("([a-z0-9][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})=" + _VALUE)
_MOST_MEMBERS = 32
_KNOWN_FLAGS = 0x03
"""Sampled, and random trace id; the others have to be 0 in what one sends on."""


def parse_trace(parent: str | None, state: str | None = None) -> dict[str, str]:
    """The context in these two headers: empty where the first is not valid, without the second where that is not.

    Of a later version than 00 the fields that this one has are taken, as W3C wants it.
    """
    if parent is None or len(parent) > _MAX_PARENT:
        return {}
    found = _PARENT.fullmatch(parent)
    if found is None:
        return {}
    version, trace_id, span_id, flags, _ = found.groups()
    if version == "ff" or (version == "00" and len(parent) != _PARENT_LENGTH):
        return {}
    if not (trace_id.strip("0") and span_id.strip("0")):
        return {}
    context = {TRACEPARENT: f"00-{trace_id}-{span_id}-{int(flags, 16) & _KNOWN_FLAGS:02x}"}
    members = _parse_state(state or "")
    return context | {TRACESTATE: members} if members else context


def trace_of(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """The context in the headers of a record or a request, their names in lower case."""
    parents: list[bytes] = []
    states: list[bytes] = []
    for name, value in headers:
        if name == TRACEPARENT:
            parents.append(value or b"")
        elif name == TRACESTATE:
            states.append(value or b"")
    if len(parents) != 1:
        return {}
    return parse_trace(_text(parents[0]), _text(b",".join(states)))


def _text(value: bytes) -> str | None:
    return value.decode() if value.isascii() else None


def _parse_state(state: str) -> str:
    if len(state) > MAX_TRACESTATE:
        return ""
    members = [member for part in state.split(",") if (member := part.strip(" \t"))]
    found = [_MEMBER.fullmatch(member) for member in members]
    keys = {match[1] for match in found if match is not None}
    return ",".join(members) if len(keys) == len(members) <= _MOST_MEMBERS else ""
