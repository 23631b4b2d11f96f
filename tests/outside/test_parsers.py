"""The parsers of what anybody may have written, with 100,000 cases: a result or the documented error, never another.

hypothesis picks what is varied and how; each of its cases is forty variations, so that a hundred thousand take
half a minute. The cases are the same in every run.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.domain.claim import Claim, Kind
from streams.domain.command import InvalidCommand, is_command_id, parse_command
from streams.domain.envelope import dump_envelope, parse_envelope
from streams.domain.queue_name import is_xfer, validate_queue_name
from streams.domain.returned import InvalidEnvelope, NotRestorable, ReturnReason
from streams.domain.topic import topic_of
from streams.drain.strategy import STRATEGIES, Moved, Strategy
from streams.settings.settings import load_settings
from streams.worker.engine import Engine
from tests.fakes.broker import Broker
from tests.fakes.kafka import FakeKafka
from tests.outside.mutations import BASES, ENVELOPE, XFER_QUEUE, mutated, rotten
from tests.support.examples import examples
from tests.support.patience import allowed_s

outside = settings.get_profile("outside")
AT_ONCE = 40
NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
SLOW_S = 1.0
"""No input of a few kilobytes may take so much of the processor."""

MAIL = b"Subject: =?utf-8?q?=C3=A4?= x\r\n y\r\nFrom: a@b\r\nX-Y: \xc3\xa4\xff\r\nSubject: again\r\n\r\nbody"
SETTINGS = load_settings()
FALLBACK = "xferq.commands-0-7-1795514400000"


@dataclass(frozen=True, slots=True)
class Written:
    """A record as anybody may have written it."""

    key: bytes | None
    value: bytes | None
    headers: Any
    partition: int = 0
    offset: int = 0
    timestamp: int = -1


def a_command(raw: bytes | None) -> str:
    """What a command's parser makes of it, having seen that it is one of the two documented things."""
    try:
        command = parse_command(raw, fallback_id=FALLBACK)
    except InvalidCommand as error:
        refusal = error
    else:
        assert parse_command(command.to_bytes(), fallback_id="other") == command
        assert is_xfer(command.queue)
        assert topic_of(command.queue)
        assert is_command_id(command.id)
        orjson.dumps(orjson.loads(command.content()))
        return command.type
    assert 0 < len(refusal.reason) <= 250
    assert is_command_id(refusal.id)
    return "refused"


def transform(kind: Kind, queue: str = XFER_QUEUE) -> Strategy:
    """The strategy of a claim that carries everything into the log that can be."""
    claim = Claim(
        id="i",
        kind=kind,
        topic=topic_of(XFER_QUEUE),
        topic_id="t",
        queue=queue if kind == "xfer.cancel" else "t@example.com",
        xfer_queue=XFER_QUEUE,
        reason="a\r\nb",
        group="g",
        ranges={0: (0, 1)},
        claimed_at="2026-11-24T10:00:00Z",
    )
    return STRATEGIES[claim.kind](claim, node_id="n", log_meta=("x*", "tenant"), log_headers=("Subject", "X-Y", "From"))


TRANSFORMS = [transform("xfer.cancel"), transform("xfer.start")]


def a_message(headers: Any, key: bytes | None, value: bytes | None) -> str:
    """What becomes of a message in a drain, having seen that it is one of the documented things."""
    record = Written(key, value, headers)
    cancelled, _ = (_moved_by(move, record, headers) for move in TRANSFORMS)
    return cancelled


def _moved_by(move: Strategy, record: Written, headers: Any) -> str:
    try:
        moved = move(record, NOW)
    except NotRestorable as error:
        refusal = error
    else:
        _see(moved, headers)
        return "moved"
    assert refusal.code in ReturnReason
    assert 0 < len(refusal.detail) <= 250
    return refusal.code.value


def _see(moved: Moved, headers: Any) -> None:
    assert validate_queue_name(moved.queue)
    assert len(moved.headers) == len(headers)
    assert [header for header in moved.headers if header[0] != "envelope"] == [
        header for header in headers if header[0] != "envelope"
    ]
    (raw,) = [value for name, value in moved.headers if name == "envelope"]
    envelope = parse_envelope(raw)
    assert parse_envelope(dump_envelope(envelope)) == envelope
    line = orjson.loads(moved.log)
    assert line["queue"] == moved.queue
    assert b"\n" not in moved.log
    assert "\n" not in line["response"]["content"]
    assert "\r" not in line["response"]["content"]


def an_envelope(raw: bytes) -> str:
    """What an envelope's parser makes of it, and what becomes of a message with it."""
    outcome = a_message((("a", b"1"), ("envelope", raw), ("a", None)), b"k\xff", MAIL)
    try:
        parse_envelope(raw)
    except InvalidEnvelope as error:
        assert outcome == error.code == ReturnReason.INVALID_ENVELOPE  # noqa: PT017 - not that it is raised
    return outcome


def each(kind: str, seed: int, what: Callable[[bytes], str]) -> Counter[str]:
    """Forty variations of one kind, none of which may take long; how many came to what."""
    random = Random(f"{kind}/{seed}")
    tally: Counter[str] = Counter()
    for _ in range(AT_ONCE):
        raw = mutated(random, BASES[kind])
        started = time.process_time()
        try:
            tally[what(raw)] += 1
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}: {raw!r}") from error
        assert time.process_time() - started < allowed_s(SLOW_S), raw
    return tally


@pytest.mark.parametrize(
    ("kind", "what", "times", "least"),
    [
        ("cancel", a_command, 625, {"xfer.cancel": 1_000, "refused": 5_000}),
        ("start", a_command, 625, {"xfer.start": 1_000, "refused": 5_000}),
        (
            "envelope",
            an_envelope,
            1_250,
            {
                "moved": 3_000,
                "invalid_envelope": 5_000,
                "no_saved_info": 200,
                "invalid_saved_info": 2_000,
                "unresolvable_queue": 5,
            },
        ),
    ],
)
def test_a_hundred_thousand_cases(kind: str, what: Callable[[bytes], str], times: int, least: dict[str, int]) -> None:
    tally: Counter[str] = Counter()
    tried = examples(times)

    @given(st.integers(0, 2**32))
    @settings(outside, max_examples=tried)
    def vary(seed: int) -> None:
        tally.update(each(kind, seed, what))

    vary()
    # A fuzzer that only makes what is refused at once tests nothing.
    assert tally.total() >= tried * AT_ONCE
    assert tried < times or all(tally[outcome] >= count for outcome, count in least.items()), tally


@given(st.binary(max_size=200))
@settings(outside, max_examples=examples(1_000))
def test_any_bytes_at_all(raw: bytes) -> None:
    a_command(raw)
    an_envelope(raw)


names = st.sampled_from(["envelope", "Envelope", "envelope\0", "a", "", "\u202e"]) | st.text(max_size=5)
values = st.none() | st.binary(max_size=30) | st.just(orjson.dumps(ENVELOPE))


@given(
    st.lists(st.tuples(names, values), max_size=6).map(tuple),
    st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=60) | st.integers(0, 2**32).map(lambda seed: rotten(Random(seed), MAIL)),
)
@settings(outside, max_examples=examples(800))
def test_any_headers_and_any_mail(headers: Any, key: bytes | None, value: bytes | None) -> None:
    a_message(headers, key, value)


def test_any_drain_task() -> None:
    """One that points at nothing is passed over, and none ends in an error."""
    good = b'{"topic":"queue.a","partition":0,"claim":"c"}'
    begun: list[tuple[str, int]] = []

    @given(st.binary(max_size=60) | st.just(good), st.integers(0, 2**32))
    @settings(outside, max_examples=examples(300))
    def vary(raw: bytes, seed: int) -> None:
        for value in (raw, rotten(Random(seed), raw)):
            engine = Engine(FakeKafka(Broker(), SETTINGS), SETTINGS)
            engine.drains.begin = lambda *where: begun.append(where)  # type: ignore[method-assign]
            engine.on_task(value)

    vary()
    assert ("queue.a", 0) in begun


# ---- deep and huge

DEEP = 100_000
HUGE = 1_000_000


@pytest.mark.parametrize(
    "value",
    [
        b"[" * DEEP + b"]" * DEEP,
        b'{"a":' * DEEP + b"1" + b"}" * DEEP,
        b'[{"":' * DEEP + b"0" + b"}]" * DEEP,
        b"[" * 1000 + b"]" * 1000,
        b"9" * HUGE,
        b"-" + b"9" * HUGE,
        b"0." + b"9" * HUGE,
        b"1e" + b"9" * HUGE,
        b"0." + b"0" * HUGE + b"1e" + str(HUGE).encode(),
        b'"' + b"a" * 10 * HUGE + b'"',
        b'"' + b"\\u0000" * HUGE + b'"',
        b"[" + b"0," * HUGE + b"0]",
        b"{" + b",".join(b'"%d":0' % number for number in range(200_000)) + b"}",
        b"{" + b",".join([b'"a":0'] * 200_000) + b"}",
    ],
    ids=lambda value: f"{value[:8].decode()}...{len(value)}",
)
@pytest.mark.parametrize("where", ["type", "reason", "queue_name", "id", "more"])
def test_deep_and_huge_values(where: str, value: bytes) -> None:
    started = time.process_time()
    rest = b",".join(b"%b:%b" % (orjson.dumps(name), orjson.dumps(text)) for name, text in BASES["cancel"].items())
    a_command(b'{%b,"%b":%b}' % (rest, where.encode(), value))
    names = {"type": b"meta", "reason": b"sender", "queue_name": b"recipient", "id": b"num_attempts", "more": b"more"}
    fields = {name: item for name, item in ENVELOPE.items() if name.encode() != names[where]}
    an_envelope(orjson.dumps(fields)[:-1] + b',"%b":%b}' % (names[where], value))
    assert time.process_time() - started < allowed_s(5 * SLOW_S)
