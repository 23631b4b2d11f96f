"""Trace context: what is one and what isn't, in headers that anybody may have made up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import TraceState

from streams.domain.claim import Claim
from streams.domain.trace import MAX_TRACESTATE, parse_trace, trace_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"
CLAIM = Claim(
    id="c",
    kind="xfer.cancel",
    topic="queue.x",
    topic_id="t",
    queue="x",
    xfer_queue="x",
    reason="why",
    group="g",
    ranges={0: (0, 1)},
    claimed_at="2026-11-20T10:00:00Z",
)

hex_digits = st.sampled_from("0123456789abcdef")


def hexes(length: int) -> st.SearchStrategy[str]:
    return st.text(hex_digits, min_size=length, max_size=length)


def context(trace_id: str, span_id: str, flags: int, state: str = "") -> dict[str, str]:
    parent = {"traceparent": f"00-{trace_id}-{span_id}-{flags:02x}"}
    return parent | {"tracestate": state} if state else parent


def headers_of(context: dict[str, str]) -> list[tuple[str, bytes]]:
    return [(name, value.encode()) for name, value in context.items()]


contexts = st.builds(
    context,
    hexes(32).filter(lambda text: text.strip("0")),
    hexes(16).filter(lambda text: text.strip("0")),
    st.integers(0, 3),
    st.sampled_from(["", "a=b", "rojo=00f067aa0ba902b7,t@congo=t61rcWkgMzE", "0k_-*/=!+;<>~ ~"]),
)
# Nearly right, and anything.
parents = st.one_of(
    st.text(),
    st.from_regex(r"[0-9a-fA-F]{1,3}-[0-9a-f]{31,33}-[0-9a-f]{15,17}-[0-9a-f]{1,3}(-.{0,9})?", fullmatch=True),
    st.builds("-".join, st.tuples(hexes(2), hexes(32), hexes(16), hexes(2))),
)
states = st.text() | st.lists(st.text("ab=@,! \t\x00\u00e4", max_size=9), max_size=40).map(",".join)


@given(contexts)
def test_what_is_written_is_what_is_read(context: dict[str, str]) -> None:
    assert trace_of(headers_of(context)) == context
    assert parse_trace(context["traceparent"], context.get("tracestate")) == context


@given(parents, states)
def test_whatever_stands_there_is_a_context_that_can_be_sent_on_or_none(parent: str, state: str) -> None:
    found = parse_trace(parent, state)
    if found:
        assert trace_of(headers_of(found)) == found
        assert len(found["traceparent"]) == 55
        assert len(found.get("tracestate", "")) <= MAX_TRACESTATE


@given(parents)
def test_it_is_one_where_it_is_one_for_opentelemetry(parent: str) -> None:
    # Whose pattern is laxer than W3C about what stands around it; so of those that are printable.
    carrier = {"traceparent": parent}
    theirs = TraceContextTextMapPropagator().extract(carrier)
    ours = parse_trace(parent)
    if ours:
        assert theirs != {}
    elif theirs != {}:
        assert parent != parent.strip() or not parent.isascii() or not parent.isprintable() or len(parent) > 256


@given(states)
def test_a_state_is_left_out_whole_or_opentelemetry_takes_all_of_it(state: str) -> None:
    found = parse_trace(GOOD, state)
    assert found["traceparent"] == GOOD
    if "tracestate" in found:
        assert TraceState.from_header([found["tracestate"]]).to_header() == found["tracestate"]


@given(st.lists(st.tuples(st.sampled_from(["traceparent", "tracestate", "x"]), st.none() | st.binary()), max_size=5))
def test_any_headers_are_a_context_or_none(headers: list[tuple[str, bytes | None]]) -> None:
    found = trace_of(headers)
    assert found == {} or sum(name == "traceparent" for name, _ in headers) == 1


@pytest.mark.parametrize(
    "parent",
    [
        "",
        GOOD.upper(),
        f" {GOOD}",
        f"{GOOD}\n",
        f"{GOOD}-",
        f"{GOOD}-00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"01-{TRACE}-{SPAN}-01x",
        f"01-{TRACE}-{SPAN}-01-\x1b[31m",
        f"01-{TRACE}-{SPAN}-01-{'x' * 1_000_000}",
        f"0\u0661-{TRACE}-{SPAN}-01",
    ],
    ids=lambda parent: repr(parent[:60]),
)
def test_what_is_none(parent: str) -> None:
    assert parse_trace(parent) == {}
    assert trace_of([("traceparent", parent.encode())]) == {}


@pytest.mark.parametrize(
    ("parent", "flags"),
    [(GOOD, 1), (f"00-{TRACE}-{SPAN}-00", 0), (f"00-{TRACE}-{SPAN}-ff", 3), (f"01-{TRACE}-{SPAN}-01-more", 1)],
)
def test_what_is_one(parent: str, flags: int) -> None:
    assert parse_trace(parent) == context(TRACE, SPAN, flags)


def test_two_of_them_are_none() -> None:
    assert trace_of([("traceparent", GOOD.encode())] * 2) == {}


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([b"a=1", b"b=2"], "a=1,b=2"),
        ([b" a=1 ,\tb=2,,"], "a=1,b=2"),
        ([b"a=1,a=2"], ""),
        ([b"a"], ""),
        ([b"A=1"], ""),
        ([b"a=1\x1b"], ""),
        ([b"a=\xff"], ""),
        ([b",".join(b"k%d=1" % number for number in range(33))], ""),
        ([b"a=" + b"x" * 600], ""),
    ],
)
def test_a_state_that_is_not_valid_is_left_out(states: list[bytes], expected: str) -> None:
    found = trace_of([("traceparent", GOOD.encode()), *(("tracestate", state) for state in states)])
    assert found == context(TRACE, SPAN, 1, expected)


# ---- as a claim carries it to its drains


def test_a_claim_that_is_not_traced_is_written_as_before() -> None:
    assert b"trace" not in CLAIM.to_bytes()
    assert CLAIM.trace == {}


def test_a_claim_carries_its_trace() -> None:
    claim = CLAIM.model_copy(update={"traceparent": GOOD, "tracestate": "a=1"})
    assert Claim.model_validate_json(claim.to_bytes()).trace == context(TRACE, SPAN, 1, "a=1")


@pytest.mark.parametrize("value", [b"5", b"null", b'"x"', b"[]", b'{"a": 1}'])
def test_whatever_stands_there_the_claim_can_be_read(value: bytes) -> None:
    # And what a later version adds: an earlier one reads these two in the same way.
    added = b',"traceparent":%b,"tracestate":%b,"later":%b}' % (value, value, value)
    found = Claim.model_validate_json(CLAIM.to_bytes().removesuffix(b"}") + added)
    assert found.trace == {}
    assert found.ranges == CLAIM.ranges
