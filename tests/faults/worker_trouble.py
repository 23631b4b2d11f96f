"""Workers that die, stand still, come and go."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.broker import mortal
from tests.broker.scene import WorkerProcess
from tests.faults.trouble import Fault, Trouble
from tests.support.patience import SLOWNESS, deadline

WORKERS = 3
SURVIVOR = 0
"""The worker that is stopped at times but never killed: its memory is looked at."""
_VISITOR = WORKERS
"""The place of a worker that comes and goes."""
_FATES = tuple(step for step in mortal.STEPS if step != "task.delete_before")


class WorkerTrouble(Trouble):
    """See the module."""

    def __init__(self, *shared: Any) -> None:
        super().__init__(*shared)
        self._held: set[int] = set()

    def supervise(self) -> None:
        """Start again whoever has ended by itself, as an operator's supervisor does."""
        while not self.over.wait(1):
            for slot in range(WORKERS):
                worker = self.stage.workers[slot]
                if slot not in self._held and not worker.is_running and slot not in self._held:
                    with suppress(OSError):  # replaced just now
                        self.say(f"workers: {slot} has ended by itself: {worker.log[-300:]!r}")
                    self.done["workers: ended by themselves"] += 1
                    self.stage.start_worker(slot)

    @contextmanager
    def _hold(self, slot: int) -> Iterator[None]:
        """This worker's end is ours."""
        self._held.add(slot)
        try:
            yield
        finally:
            self._held.discard(slot)

    def _victim(self, fault: Fault, *, any_: bool = False) -> tuple[int, WorkerProcess]:
        slot = fault.dice.choice([slot for slot in range(WORKERS) if any_ or slot != SURVIVOR])
        return slot, self.stage.workers[slot]

    def kill(self, fault: Fault) -> None:
        slot, worker = self._victim(fault)
        with self._hold(slot):
            worker.kill()
            self.last(fault)
            self.stage.start_worker(slot)

    def pause(self, fault: Fault) -> None:
        _, worker = self._victim(fault, any_=True)
        with suppress(AssertionError):  # it has just ended by itself
            worker.pause()
        self.last(fault)
        worker.resume()

    def fate(self, fault: Fault) -> None:
        """A worker that dies or stops at a step; where it never gets there, it lives on without it."""
        step = fault.dice.choice(_FATES)
        ends = step.endswith(".end")
        when: mortal.When = fault.dice.choice(["before", "during", "after"] if ends else ["before", "after"])
        how: mortal.Signal = fault.dice.choice(["KILL", "STOP"])
        slot, worker = self._victim(fault)
        with self._hold(slot):
            self._meet(slot, worker, step, when, how, fault.for_s)

    def _meet(
        self, slot: int, worker: WorkerProcess, step: str, when: mortal.When, how: mortal.Signal, for_s: float
    ) -> None:
        worker.kill()
        self.say(f"workers: fate {when} {step} {how}")
        fated = self.stage.start_worker(slot, mortal.fate(step, when, 1, how))
        end = deadline(20 * SLOWNESS)  # it may never get there
        while not mortal.has_met(fated) and not end.is_over and fated.is_running:
            if self.over.wait(0.2):
                break
        if mortal.has_met(fated):
            self.done[f"workers: {how} at its step"] += 1
            if fated.is_running:
                self.over.wait(for_s)
                fated.resume()
                return
        self.stage.start_worker(slot)

    def replace(self, fault: Fault) -> None:
        slot, _ = self._victim(fault)
        self._replace(slot)

    def _replace(self, slot: int) -> None:
        with self._hold(slot):
            self.stage.workers[slot].terminate()
            self.stage.workers[slot].wait()
            self.stage.start_worker(slot)

    def roll(self, fault: Fault) -> None:
        """A rolling restart: all of them but the survivor, one after the other."""
        for slot in range(WORKERS):
            if slot != SURVIVOR:
                self._replace(slot)
                self.over.wait(fault.dice.uniform(0.5, 3))

    def visit(self, fault: Fault) -> None:
        visitor = self.stage.start_worker(_VISITOR)
        self.last(fault)
        visitor.terminate()
        visitor.wait()
