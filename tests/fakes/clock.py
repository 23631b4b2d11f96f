"""Time that passes at once: an event loop whose clock jumps to the next timer when nothing is to do."""

import asyncio
import functools
import selectors
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, TypeVar

_Result = TypeVar("_Result")

EPOCH = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
"""The date when a loop's clock stands at 0."""

LONGEST_S = 50_000.0
"""A test whose clock passes this has come to no end."""


class _Jump(selectors.SelectSelector):
    loop: "JumpingLoop"

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everything waits, and for no timer: the test would never end")
        if timeout <= 0:
            return []  # something is ready: what comes from outside, of another thread say, is looked for at the jump
        self.loop.now_s += timeout
        if self.loop.now_s > LONGEST_S:
            raise RuntimeError("the test comes to no end")
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """Sleeps take no time, and timers still fire in their order; the same run every time."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.ahead = timedelta()
        selector = _Jump()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """The loop's own clock, in seconds."""
        return self.now_s


def now() -> datetime:
    """The running loop's clock as a date."""
    loop = asyncio.get_running_loop()
    return EPOCH + timedelta(seconds=loop.time()) + getattr(loop, "ahead", timedelta())


def skip(time: timedelta) -> None:
    """From now on the date is so much later, without anything having happened meanwhile."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, JumpingLoop):
        raise AssertionError("this loop's time does not jump")
    loop.ahead += time


def jumping_time() -> Callable[[], None]:
    """Let xferq's modules measure time by the loop's clock; returns what takes that back."""
    clock = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
    changed = [
        module
        for name, module in sys.modules.items()
        if name.startswith(("streams.", "api.")) and getattr(module, "time", None) is time
    ]
    for module in changed:
        module.time = clock  # type: ignore[attr-defined]

    def restore() -> None:
        for module in changed:
            module.time = time  # type: ignore[attr-defined]

    return restore


def run(work: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    """Run a coroutine on a loop of its own whose time jumps."""
    restore = jumping_time()
    try:
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            try:
                return runner.run(work())
            finally:
                _end_all_tasks(runner.get_loop())
    finally:
        restore()


def _end_all_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Those, too, that others begin as they are cancelled: left over, they would go on within a later test's loop."""
    while tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


def timeless(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine, run on a loop whose time jumps."""

    @functools.wraps(test)
    def run_it(*args: Any, **kwargs: Any) -> None:
        run(lambda: test(*args, **kwargs))

    return run_it
