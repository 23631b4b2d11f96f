"""Trace context as W3C has it: which trace a command belongs to, in two headers that anybody may have made up.

`traceparent` is `00-<trace id>-<span id>-<flags>` in hex; `tracestate` is what tracing systems add to it. What is not
exactly that counts as not being there: no command is refused for it, and nothing of it is kept.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
TRACEPARENT_PATTERN = "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[ -~]*)?$"
"""For documentation; `parse_trace` is what decides."""
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


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span of somebody's, to go on from. `trace_id` has 32 hex digits, `span_id` 16; neither is all zeros."""

    trace_id: str
    span_id: str
    flags: int
    state: str = ""

    @property
    def traceparent(self) -> str:
        """As the header says it."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"

    def headers(self) -> list[tuple[str, bytes]]:
        """As headers of a record."""
        state = [(TRACESTATE, self.state.encode())] if self.state else []
        return [(TRACEPARENT, self.traceparent.encode()), *state]


def parse_trace(parent: str | None, state: str | None = None) -> TraceContext | None:
    """The context in these two headers: None where the first is not valid, without the second where that is not.

    Of a later version than 00 the fields that this one has are taken, as W3C wants it.
    """
    if parent is None or len(parent) > _MAX_PARENT:
        return None
    found = _PARENT.fullmatch(parent)
    if found is None:
        return None
    version, trace_id, span_id, flags, _ = found.groups()
    if version == "ff" or (version == "00" and len(parent) != _PARENT_LENGTH):
        return None
    if not (trace_id.strip("0") and span_id.strip("0")):
        return None
    return TraceContext(trace_id, span_id, int(flags, 16) & _KNOWN_FLAGS, _parse_state(state or ""))


def trace_of(headers: Iterable[tuple[str, bytes | None]]) -> TraceContext | None:
    """The context in the headers of a record or a request, their names in lower case; None where there is none."""
    parents: list[bytes] = []
    states: list[bytes] = []
    for name, value in headers:
        if name == TRACEPARENT:
            parents.append(value or b"")
        elif name == TRACESTATE:
            states.append(value or b"")
    if len(parents) != 1:
        return None
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
