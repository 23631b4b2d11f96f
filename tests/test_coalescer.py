"""Questions in rounds: what is shared, and what is not."""

import asyncio
from collections.abc import Collection

import pytest

from streams.concurrency.coalescer import Coalescer


class Desk:
    """Answers each round when it is told to: with the number of the round, or with what `says` has."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.says: dict[str, Exception] = {}
        self.breaks: Exception | None = None
        self._open = asyncio.Semaphore(0)

    async def ask(self, subjects: Collection[str]) -> dict[str, int | Exception]:
        """Wait, then answer."""
        self.asked.append(sorted(subjects))
        number = len(self.asked)
        await self._open.acquire()
        if self.breaks is not None:
            raise self.breaks
        return {subject: self.says.get(subject, number) for subject in subjects}

    async def answer(self) -> None:
        """End the round under way, and let everybody see it."""
        self._open.release()
        await settled()


async def settled() -> None:
    """Let all tasks go on as far as they can."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def desk() -> Desk:
    return Desk()


@pytest.fixture
async def rounds(desk: Desk) -> Coalescer[str, int]:
    return Coalescer(desk.ask)


def ask(rounds: Coalescer[str, int], *subjects: str) -> list[asyncio.Task[int]]:
    """Somebody for each subject."""
    return [asyncio.create_task(rounds.answer(subject)) for subject in subjects]


async def test_who_asks_at_once_shares_a_round(desk: Desk, rounds: Coalescer[str, int]) -> None:
    waiting = ask(rounds, "a", "b", "a")
    await settled()
    await desk.answer()
    assert [task.result() for task in waiting] == [1, 1, 1]
    assert desk.asked == [["a", "b"]]


async def test_no_answer_is_older_than_its_question(desk: Desk, rounds: Coalescer[str, int]) -> None:
    (first,) = ask(rounds, "a")
    await settled()
    later = ask(rounds, "a", "b", "a")  # while the first round is under way: its answer may be of before
    await settled()
    assert desk.asked == [["a"]], "one round at a time"
    await desk.answer()
    assert first.result() == 1
    assert not any(task.done() for task in later)
    assert desk.asked == [["a"], ["a", "b"]]
    await desk.answer()
    assert [task.result() for task in later] == [2, 2, 2]


async def test_who_asks_the_moment_a_round_ends_is_answered_by_another(desk: Desk, rounds: Coalescer[str, int]) -> None:
    async def twice() -> tuple[int, int]:
        return await rounds.answer("a"), await rounds.answer("a")

    task = asyncio.create_task(twice())
    await settled()
    await desk.answer()
    await desk.answer()
    assert task.result() == (1, 2)


async def test_an_error_about_one_is_not_the_others(desk: Desk, rounds: Coalescer[str, int]) -> None:
    desk.says["a"] = ValueError("not a")
    a, b, another_a = ask(rounds, "a", "b", "a")
    await settled()
    await desk.answer()
    assert b.result() == 1
    for task in (a, another_a):
        with pytest.raises(ValueError, match="not a"):
            task.result()


async def test_a_round_that_fails_fails_for_those_in_it_alone(desk: Desk, rounds: Coalescer[str, int]) -> None:
    in_it = ask(rounds, "a", "b")
    await settled()
    (after,) = ask(rounds, "a")
    desk.breaks = OSError("broken")
    await desk.answer()
    for task in in_it:
        with pytest.raises(OSError, match="broken"):
            task.result()
    desk.breaks = None
    await desk.answer()
    assert after.result() == 2


async def test_who_stops_waiting_takes_nothing_from_the_others(desk: Desk, rounds: Coalescer[str, int]) -> None:
    impatient, patient = ask(rounds, "a", "a")
    await settled()
    impatient.cancel()
    (last,) = ask(rounds, "b")
    await settled()
    last.cancel()
    await settled()
    await desk.answer()
    assert impatient.cancelled()
    assert patient.result() == 1
    await desk.answer()
    (next_one,) = ask(rounds, "c")
    await settled()
    await desk.answer()
    assert next_one.result() == 3


async def test_who_waits_when_it_is_stopped_does_not_wait_for_ever(desk: Desk, rounds: Coalescer[str, int]) -> None:
    await rounds.stop()
    waiting = ask(rounds, "a")
    await settled()
    waiting += ask(rounds, "a", "b")
    await settled()
    await rounds.stop()
    await settled()
    assert all(task.cancelled() for task in waiting)
    (later,) = ask(rounds, "c")
    await settled()
    await desk.answer()
    assert later.result() == 2


async def test_an_error_that_nobody_waits_for_is_no_complaint(desk: Desk, rounds: Coalescer[str, int]) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    desk.says["a"] = ValueError("nobody hears it")
    (gone,) = ask(rounds, "a")
    await settled()
    gone.cancel()
    await desk.answer()
    assert complaints == []
