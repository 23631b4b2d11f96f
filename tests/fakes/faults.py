"""Faults by script: every call of a port is a named point at which something may happen."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from streams.errors import Fenced, OutcomeUnknown, Unavailable

ERRORS: dict[str, Callable[[], BaseException]] = {
    "unavailable": lambda: Unavailable("by script"),
    "unknown": lambda: OutcomeUnknown("by script"),
    "fenced": lambda: Fenced("by script"),
    "crash": lambda: Crash("by script"),
}


class Crash(BaseException):
    """The process is gone, as after kill -9: whatever it does next with Kafka ends in this too."""


class Standstill:
    """A process that stands still at a point, as in a long pause, while all others go on."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.over = asyncio.Event()


@dataclass(slots=True, eq=False)
class _Script:
    """What happens at points whose name contains `pattern`: `times` times, each once `after` of them were passed."""

    pattern: str
    error: BaseException
    after: int
    times: int
    passed: int = 0


class Faults:
    """The points that one process passes, and what happens at them.

    A point's name is `<call>:<on what>`, with `.done` behind it once the call took effect; a transaction has
    more of them (see `FakeProducer.transact`). `passed` lists them all, in order.
    """

    def __init__(self, seed: int = 0) -> None:
        self.passed: list[str] = []
        self.dead = False
        self.longest_s = 0.002
        """The longest time that a call takes; 0 for none."""
        self._random = random.Random(seed)
        self._at: dict[int, BaseException] = {}
        self._on: list[_Script] = []
        self._standstills: list[tuple[str, int, Standstill]] = []

    def at(self, index: int, error: str | BaseException) -> None:
        """Raise at the point of this number, counted from 0."""
        self._at[index] = ERRORS[error]() if isinstance(error, str) else error

    def on(self, point: str, error: str | BaseException, *, after: int = 0, times: int = 1) -> None:
        """Raise at a point whose name contains `point`: `times` times, once it was passed `after` times."""
        error = ERRORS[error]() if isinstance(error, str) else error
        self._on.append(_Script(point, error, after, times))

    def stand_still(self, point: str, *, after: int = 0) -> Standstill:
        """Stop at the next point whose name contains `point`, behind `after` others, until its event `over` is set."""
        standstill = Standstill()
        self._standstills.append((point, after, standstill))
        return standstill

    def clear(self) -> None:
        """Nothing more happens."""
        self._at.clear()
        self._on.clear()

    def crash(self) -> None:
        """Kill the process now."""
        self.dead = True

    async def point(self, name: str, *, counted: bool = True) -> None:
        """Pass a point; a process that is dead, or dies here, gets no further."""
        await asyncio.sleep(self._random.uniform(0, self.longest_s) if self.longest_s else 0)
        self.alive()
        if not counted:
            return
        index = len(self.passed)
        self.passed.append(name)
        for number, (pattern, after, standstill) in enumerate(self._standstills):
            if pattern in name and after:
                self._standstills[number] = (pattern, after - 1, standstill)
            elif pattern in name:
                del self._standstills[number]
                standstill.begun.set()
                await standstill.over.wait()
                break
        error = self._at.pop(index, None) or self._scripted(name)
        if isinstance(error, Crash):
            self.dead = True
        if error is not None:
            raise error

    def alive(self) -> None:
        """Raise Crash in what is left of a process that is gone."""
        if self.dead:
            raise Crash("gone")

    def _scripted(self, name: str) -> BaseException | None:
        script = next((script for script in self._on if script.pattern in name), None)
        if script is None:
            return None
        if script.passed < script.after:
            script.passed += 1
            return None
        script.passed, script.times = 0, script.times - 1
        if not script.times:
            self._on.remove(script)
        return script.error
