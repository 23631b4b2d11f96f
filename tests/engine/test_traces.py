"""Traces: a command, its claims and their drains are one, whoever does what; and nothing rests on them."""

from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from streams.domain.topic import topic_of
from streams.telemetry import traces
from tests.engine.checker import Checker
from tests.engine.world import QUEUES, XFER_QUEUE, World
from tests.fakes.clock import timeless
from tests.fakes.faults import Faults

TOPIC = topic_of(XFER_QUEUE)
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = [("traceparent", f"00-{TRACE}-{SPAN}-01".encode()), ("tracestate", b"a=1")]
REASON = "nobody else's business"
CANCEL = {"type": "xfer.cancel", "queue_name": XFER_QUEUE, "reason": REASON, "id": "c1"}


class Found:
    """What is traced from now on."""

    def __init__(self) -> None:
        self._kept = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._kept))
        traces._tracer = provider.get_tracer("xferq")

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._kept.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span


@pytest.fixture(autouse=True)
def off_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "_tracer", traces._tracer)


def said(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def trace_id(span: ReadableSpan) -> str:
    return f"{span.context.trace_id:032x}"


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


@timeless
async def test_a_command_its_claim_and_its_drains_are_one_trace() -> None:
    async with World() as world:
        world.inject(10)
        found = Found()
        world.worker()
        world.publish(CANCEL, headers=HEADERS)
        await world.ended("c1")
        commands = world.settings.commands_topic
        command, claim = found.one(f"process {commands}"), found.one("claim")
        drains, transactions = found.named("drain"), found.named("transaction")
        assert {trace_id(span) for span in found.spans} == {TRACE}
        assert f"{parent_of(command):016x}" == SPAN
        assert parent_of(claim) == command.context.span_id
        assert [parent_of(drain) for drain in drains] == [claim.context.span_id] * 2
        assert claim.context.trace_state.to_header() == "a=1"
        assert command.kind == SpanKind.CONSUMER
        assert said(command) == {
            "messaging.system": "kafka",
            "messaging.destination.name": commands,
            "messaging.destination.partition.id": "0",
            "messaging.kafka.offset": 0,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": world.settings.worker_group,
            "xferq.command.id": "c1",
            "xferq.command.type": "xfer.cancel",
            "xferq.queue": XFER_QUEUE,
            "xferq.outcome": "claimed",
        }
        assert said(claim) == {
            "xferq.command.id": "c1",
            "xferq.queue": XFER_QUEUE,
            "xferq.outcome": "claimed",
            "xferq.partitions": 2,
            "xferq.offsets": 10,
        }
        for drain in drains:
            # Three messages to a transaction here.
            assert said(drain).items() >= {"xferq.restored": 5, "xferq.returned": 0, "xferq.transactions": 2}.items()
            assert said(drain)["messaging.destination.name"] == TOPIC
        assert {said(drain)["messaging.destination.partition.id"] for drain in drains} == {"0", "1"}
        assert sorted(said(span)["messaging.batch.message_count"] for span in transactions) == [2, 2, 3, 3]
        assert {parent_of(span) for span in transactions} == {drain.context.span_id for drain in drains}
        assert REASON not in str([span.to_json() for span in found.spans])
        Checker(world).check()


@timeless
async def test_another_worker_that_drains_goes_on_with_the_trace() -> None:
    async with World() as world:
        world.inject(10)
        first = Found()
        claimer = world.worker(drains=False)
        world.publish(CANCEL, headers=HEADERS)
        await world.until(lambda: bool(first.named("claim")))
        claimer.kill()
        second = Found()
        world.worker()
        assert (await world.ended("c1")).restored == 10
        drains = second.named("drain")
        assert len(drains) == 2
        assert first.named("drain") == []
        assert {trace_id(drain) for drain in drains} == {TRACE}
        assert {parent_of(drain) for drain in drains} == {first.one("claim").context.span_id}
        Checker(world).check()


@timeless
async def test_what_a_worker_without_traces_has_claimed_is_drained_in_a_trace_of_its_own() -> None:
    async with World() as world:
        world.inject(10)
        claimer = world.worker(drains=False)
        world.publish(CANCEL, headers=HEADERS)
        await world.until(lambda: bool(world.ledger.claims(TOPIC)))
        claimer.kill()
        assert world.ledger.claims(TOPIC)[0].traceparent is None
        found = Found()
        world.worker()
        assert (await world.ended("c1")).restored == 10
        assert [parent_of(drain) for drain in found.named("drain")] == [None, None]
        Checker(world).check()


@timeless
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("traceparent", b"\xff" * 100_000)],
        [("traceparent", b"00-0-0-0"), ("tracestate", b"a=1")],
        [*HEADERS, *HEADERS],
        [("", b""), ("Traceparent", HEADERS[0][1])],
    ],
    ids=["none", "bytes", "short", "two", "upper case"],
)
async def test_headers_that_are_no_context_begin_a_new_trace(headers: list[tuple[str, bytes]]) -> None:
    async with World() as world:
        world.inject(4)
        found = Found()
        world.worker()
        world.publish(CANCEL, headers=headers)
        assert (await world.ended("c1")).restored == 4
        command = found.one(f"process {world.settings.commands_topic}")
        assert parent_of(command) is None
        assert {trace_id(span) for span in found.spans} == {trace_id(command)} != {TRACE}
        assert command.context.trace_state.to_header() == ""


@timeless
async def test_what_fails_says_so_and_the_next_try_is_another_span() -> None:
    async with World(partitions=1) as world:
        world.inject(3)
        found = Found()
        faults = Faults()
        faults.on(f"reader:{TOPIC}", "unavailable")
        world.worker(faults)
        world.publish(CANCEL, headers=HEADERS)
        await world.ended("c1")
        failed, good = found.named("drain")
        assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, "by script")
        assert said(failed)["error.type"] == "Unavailable"
        assert said(failed)["xferq.restored"] == 0
        assert good.status.status_code == StatusCode.UNSET
        assert said(good)["xferq.restored"] == 3


@timeless
async def test_what_is_refused_says_so() -> None:
    async with World() as world:
        found = Found()
        world.worker()
        world.publish(CANCEL | {"queue_name": "http://nobody.example/.xfer.kumomta.internal"})
        world.publish(b"no command", headers=HEADERS)
        world.publish(CANCEL | {"id": "c2", "reason": ""})
        await world.ended("c1", "c2")
        spans = found.named(f"process {world.settings.commands_topic}")
        assert [said(span)["xferq.outcome"] for span in spans] == ["refused"] * 3
        claim = found.one("claim")
        assert said(claim)["error.type"] == "NotAQueue"
        assert said(claim)["xferq.outcome"] == "refused"


@timeless
async def test_a_transfer_is_one_trace_with_a_claim_for_each_queue() -> None:
    async with World() as world:
        for queue in QUEUES:
            world.inject(2, queue)
        found = Found()
        world.worker()
        world.transfer("s1")
        await world.ended("s1")
        command = found.one(f"process {world.settings.commands_topic}")
        # The target's own queue is none of them.
        assert {said(claim)["xferq.queue"] for claim in found.named("claim")} == set(QUEUES)
        assert {parent_of(claim) for claim in found.named("claim")} == {command.context.span_id}
        assert {trace_id(span) for span in found.spans} == {trace_id(command)}
        claims = {claim.context.span_id for claim in found.named("claim")}
        assert {parent_of(drain) for drain in found.named("drain")} == claims
