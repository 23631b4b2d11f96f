"""How long tests wait: every limit follows from how slow this machine is, which is measured once per run.

A slow day is one on which the same work takes longer; a constant that was enough yesterday is wrong then. So there
are three ways to bound something, and no other:

- `WAIT_S`, for what must happen some time: by then it hangs;
- `allowed_s`, for what the product promises in seconds: so long may it take here and now;
- `stretched_ms`, for a time-out of the product that a test sets small, and whose expiry would change what comes out.
"""

import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache

VARIABLE = "TEST_XFERQ_SLOWNESS"
"""Hands the measure on to all processes of a run; not `XFERQ_`, or xferq would look for a setting of that name."""
_WORK = 400_000
_ORDINARY_S = 0.25
"""The work and the start of a Python, on a machine of two cores that others use as well."""
_MARGIN = 2.0
_HOLDS_S = 10.0
"""How long a measure is good for."""
_PROLONGED = 2.0
"""By so many times `WAIT_S` a wait may become longer: what hangs must not hold up the run for ever."""


def measured() -> float:
    """How many times as long as usual a piece of work takes just now; at least 1."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import json, ssl"], check=True)
    total = 0
    for number in range(_WORK):
        total += number * number % 7
    return max(1.0, (time.perf_counter() - began) / _ORDINARY_S)


@lru_cache(1)
def _lately(_: int) -> float:
    return measured()


def _of_the_run() -> float:
    if VARIABLE not in os.environ:
        os.environ[VARIABLE] = f"{measured():.2f}"  # for every process that is started from here
    return max(1.0, float(os.environ[VARIABLE]))


SLOWNESS = _of_the_run()
"""Of this machine in this run; 1 is as usual, 2 takes twice as long."""
WAIT_S = 90.0 * _MARGIN * SLOWNESS
"""No test waits longer for anything (s), unless the machine has become slower: by then it hangs."""


def allowed_s(promised_s: float) -> float:
    """How long something may take (s) that takes at most `promised_s` where nothing else runs.

    Measured anew, as others may have begun to work since the run did; that blocks for a moment.
    """
    return promised_s * _MARGIN * max(SLOWNESS, _lately(int(time.monotonic() / _HOLDS_S)))


def stretched_ms(time_ms: int, most_ms: int | None = None) -> int:
    """A time-out of the product for a machine like this one; `most_ms` is the longest that it takes."""
    stretched = int(time_ms * SLOWNESS)
    return stretched if most_ms is None else min(stretched, most_ms)


class Deadline:
    """The end of one's patience, from now.

    A wait as long as for what hangs is prolonged where it is due on a machine that has become slower since the run
    began, and by as much: on an idle machine something hangs, on a busy one it may only be late.
    """

    def __init__(self, wait_s: float | None = None) -> None:
        self._limit_s = WAIT_S if wait_s is None else wait_s
        self._began = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether it has come; that blocks for a moment where it is due."""
        waited_s = time.monotonic() - self._began
        if waited_s <= self._limit_s or self._limit_s < WAIT_S:
            return waited_s > self._limit_s
        slower = _lately(int(time.monotonic() / _HOLDS_S)) / SLOWNESS
        return waited_s > min(self._limit_s * slower, self._limit_s + _PROLONGED * WAIT_S)

    @property
    def left_s(self) -> float:
        """The time (s) until then, never below 0."""
        return max(0.0, self._began + self._limit_s - time.monotonic())

    def check(self, why: Callable[[], object] | str = "it does not happen") -> None:
        """Go on only before it.

        Raises:
            AssertionError: it has come; with what `why` says.
        """
        assert not self.is_over, f"after {self._limit_s:.0f} s: {why() if callable(why) else why}"


def deadline(wait_s: float | None = None) -> Deadline:
    """The end of one's patience; by default, that of all tests."""
    return Deadline(wait_s)


def wait_until(
    reached: Callable[[], object],
    wait_s: float | None = None,
    *,
    why: Callable[[], object] | str = "it does not happen",
    pause_s: float = 0.02,
) -> None:
    """Look again and again until it is so.

    Raises:
        AssertionError: it does not happen in time.
    """
    until = Deadline(wait_s)
    while not reached():
        until.check(why)
        time.sleep(pause_s)


async def eventually(
    reached: Callable[[], Awaitable[object]] | Callable[[], object],
    wait_s: float | None = None,
    *,
    why: Callable[[], object] | str = "it does not happen",
    pause_s: float = 0.02,
) -> None:
    """The same, while the loop turns; what is looked at may be awaitable.

    Raises:
        AssertionError: it does not happen in time.
    """
    import asyncio

    until = Deadline(wait_s)
    while True:
        found = reached()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return
        until.check(why)
        await asyncio.sleep(pause_s)
