"""Questions that go in rounds: the next round answers together all that are asked while one is under way."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from typing import Generic, TypeVar

from streams.concurrency.ending import end

_Subject = TypeVar("_Subject", bound=Hashable)
_Answer = TypeVar("_Answer")


class Coalescer(Generic[_Subject, _Answer]):
    """Asks for many at once; no answer is older than its question.

    One round at a time: where each question costs a request, a hundred callers at once cost two. A caller that
    stops waiting takes nothing from the others.
    """

    def __init__(
        self, ask: Callable[[Collection[_Subject]], Awaitable[Mapping[_Subject, _Answer | Exception]]]
    ) -> None:
        """Nothing is asked yet.

        Args:
            ask: answers all subjects that it is given, in a bounded time, each for itself: an exception is raised
                for the callers that asked about that subject. What it raises itself is raised for all callers.
        """
        self._ask = ask
        self._waiting: dict[_Subject, asyncio.Future[_Answer]] = {}
        self._under_way: asyncio.Task[None] | None = None

    async def answer(self, subject: _Subject) -> _Answer:
        """What is said of the subject by a round that begins after this call.

        Raises:
            Exception: whatever the answer to this subject is, or the round has ended with.
        """
        future = self._waiting.get(subject)
        if future is None:
            future = self._waiting[subject] = asyncio.get_running_loop().create_future()
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._go())
        return await asyncio.shield(future)

    async def stop(self) -> None:
        """End the round under way, if there is one; callers that wait are cancelled."""
        if self._under_way is not None:
            await end([self._under_way])

    async def _go(self) -> None:
        while self._waiting:
            asked, self._waiting = self._waiting, {}
            answers: Mapping[_Subject, _Answer | Exception]
            try:
                answers = await self._ask(list(asked))
            except Exception as error:  # noqa: BLE001 - it is raised for the callers
                answers = dict.fromkeys(asked, error)
            except BaseException:
                # No round goes on here: callers must not wait for ever.
                for future in (*asked.values(), *self._waiting.values()):
                    future.cancel()
                self._waiting = {}
                raise
            for subject, future in asked.items():
                answer = answers[subject]
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                    future.exception()  # nobody may wait for it any more, which is no defect
                else:
                    future.set_result(answer)
