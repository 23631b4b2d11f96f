"""Events at work: acknowledged in order per partition, never after a revocation, never lost by an exception."""

import asyncio
from typing import Any

import pytest
from faust.types import TP

from streams.worker import agents
from streams.worker.agents import AckQueue, Owns, Work
from tests.fakes.clock import timeless
from tests.fakes.worker import FakeEvent, FakeMessage

ONE, OTHER = TP("t", 0), TP("t", 1)


class Desk:
    """A hand-off, with events that the test ends one by one."""

    def __init__(self) -> None:
        self.acks = AckQueue()
        self.acked: list[tuple[TP, int]] = []
        self.owns: dict[tuple[TP, int], Owns] = {}
        self.wanted: dict[tuple[TP, int], asyncio.Future[None]] = {}
        self._ends: dict[tuple[TP, int], asyncio.Future[bool]] = {}

    async def take(self, tp: TP, offset: int) -> None:
        event: Any = FakeEvent(FakeMessage(tp, offset), lambda *what: self.acked.append(what))
        await self.acks.submit(event, self._work(tp, offset))
        await asyncio.sleep(0)

    def _work(self, tp: TP, offset: int) -> Work:
        async def work(owns: Owns, wanted: asyncio.Future[None]) -> bool:
            self.wanted[(tp, offset)] = wanted
            self.owns[(tp, offset)] = owns
            self._ends[(tp, offset)] = asyncio.get_running_loop().create_future()
            return await self._ends[(tp, offset)]

        return work

    async def end(self, tp: TP, offset: int, outcome: bool | Exception = True) -> None:
        future = self._ends[(tp, offset)]
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
        await asyncio.sleep(0.01)


@timeless
async def test_acknowledged_in_order_per_partition() -> None:
    desk = Desk()
    for tp, offset in ((ONE, 0), (ONE, 1), (OTHER, 0), (ONE, 2)):
        await desk.take(tp, offset)
    await desk.end(ONE, 2)
    await desk.end(ONE, 1)
    assert desk.acked == []
    await desk.end(OTHER, 0)
    assert desk.acked == [(OTHER, 0)]
    await desk.end(ONE, 0)
    assert desk.acked == [(OTHER, 0), (ONE, 0), (ONE, 1), (ONE, 2)]


@timeless
async def test_what_is_left_to_others_is_not_acknowledged_nor_what_follows() -> None:
    desk = Desk()
    for offset in range(3):
        await desk.take(ONE, offset)
    await desk.end(ONE, 0)
    await desk.end(ONE, 1, False)
    await desk.end(ONE, 2)
    assert desk.acked == [(ONE, 0)]


@timeless
async def test_nothing_is_acknowledged_after_a_revocation() -> None:
    desk = Desk()
    await desk.take(ONE, 0)
    await desk.take(OTHER, 0)
    assert desk.owns[(ONE, 0)]()
    desk.acks.drop({ONE})
    assert not desk.owns[(ONE, 0)]()
    assert desk.owns[(OTHER, 0)]()
    await desk.end(ONE, 0)
    await desk.end(OTHER, 0)
    assert desk.acked == [(OTHER, 0)]


@timeless
async def test_a_partition_that_comes_back_begins_anew() -> None:
    """Its events come again; the old ones end without a word."""
    desk = Desk()
    await desk.take(ONE, 0)
    old = desk._ends[(ONE, 0)]
    desk.acks.drop({ONE})
    await desk.take(ONE, 0)
    await desk.take(ONE, 1)
    await desk.end(ONE, 1)
    old.set_result(True)
    await asyncio.sleep(0.01)
    assert desk.acked == []
    await desk.end(ONE, 0)
    assert desk.acked == [(ONE, 0), (ONE, 1)]


@timeless
async def test_an_exception_is_tried_again_and_holds_up_no_other_partition() -> None:
    desk = Desk()
    await desk.take(ONE, 0)
    await desk.take(OTHER, 0)
    await desk.end(ONE, 0, RuntimeError("a bug"))
    await desk.end(OTHER, 0)
    assert desk.acked == [(OTHER, 0)]
    await asyncio.sleep(agents._RETRY_S + 1)
    await desk.end(ONE, 0)
    assert desk.acked == [(OTHER, 0), (ONE, 0)]


@timeless
async def test_an_exception_of_what_was_revoked_is_not_tried_again() -> None:
    desk = Desk()
    await desk.take(ONE, 0)
    desk.acks.drop({ONE})
    ended = desk._ends[(ONE, 0)]
    await desk.end(ONE, 0, RuntimeError("a bug"))
    await asyncio.sleep(agents._RETRY_S + 1)
    assert desk._ends[(ONE, 0)] is ended
    assert desk.acked == []


@timeless
async def test_an_event_that_waits_for_its_turn_while_it_is_revoked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "_IN_HAND", 1)
    desk = Desk()
    await desk.take(ONE, 0)
    waiting = asyncio.create_task(desk.take(ONE, 1))
    await asyncio.sleep(0.01)
    desk.acks.drop({ONE})
    await desk.end(ONE, 0)
    await waiting
    await asyncio.sleep(0.01)
    if (ONE, 1) in desk._ends:
        assert not desk.owns[(ONE, 1)]()
        await desk.end(ONE, 1)
    assert desk.acked == []


@timeless
async def test_idle_waits_for_what_ends_and_cancels_the_rest() -> None:
    desk = Desk()
    await desk.take(ONE, 0)
    await desk.take(ONE, 1)
    asyncio.get_running_loop().call_later(1, desk._ends[(ONE, 0)].set_result, True)
    await desk.acks.idle(5)
    assert asyncio.get_running_loop().time() >= 5
    assert desk.acked == [(ONE, 0)]
    assert desk._ends[(ONE, 1)].cancelled()
    await desk.acks.idle(5)
    assert asyncio.get_running_loop().time() < 7
