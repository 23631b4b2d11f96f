"""A fault run from its start to its verdict."""

import contextlib
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.history import read_history, story_of
from tests.faults.links import LinkedCluster
from tests.faults.load import Injector, Operator
from tests.faults.nemesis import Nemesis
from tests.faults.queue_trouble import PER_SECOND, dispatched
from tests.faults.stage import Stage
from tests.faults.trouble import TRACKS, Track
from tests.faults.verdict import Verdict, judge
from tests.faults.waits import Waited
from tests.faults.witness import Quiet, Witness
from tests.faults.worker import Weakness
from tests.faults.worker_trouble import SURVIVOR, WORKERS
from tests.support.patience import WAIT_S

_END_S = 3 * WAIT_S
_SAMPLE_S = 10.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run.

    Args:
        per_second: messages that are put in.
    """

    seed: int
    seconds: float
    per_second: float = 420.0
    tracks: tuple[Track, ...] = TRACKS
    weakness: Weakness | None = None
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    plan: Plan
    verdict: Verdict
    faults: dict[str, int]
    longest_stall_s: float
    longest_wait: Waited
    stalls: dict[int, int]
    memory_mb: list[float]
    descriptors: list[int]
    story: list[str]
    seconds: float

    def report(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "plan": asdict(self.plan),
            "seconds": round(self.seconds, 1),
            "totals": dict(sorted(self.verdict.totals.items())),
            "faults": self.faults,
            "longest_stall_s": round(self.longest_stall_s, 1),
            "longest_wait": asdict(self.longest_wait),
            "stalls_by_s": dict(sorted(self.stalls.items())),
            "worker_memory_mb": _quarters(self.memory_mb),
            "worker_descriptors": _quarters([float(count) for count in self.descriptors]),
            "violations": [asdict(violation) for violation in self.verdict.violations[:20]],
            "story": self.story,
        }


def _quarters(samples: list[float]) -> list[float]:
    """The medians of the four quarters of the run."""
    size = max(1, len(samples) // 4)
    return [round(statistics.median(samples[i * size : (i + 1) * size] or [0.0]), 1) for i in range(4)]


class _Samples(threading.Thread):
    """Looks at the memory and the descriptors of the worker that is never killed."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(daemon=True)
        self._stage = stage
        self._ended = threading.Event()
        self.memory_mb: list[float] = []
        self.descriptors: list[int] = []

    def run(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            process = Path(f"/proc/{self._stage.workers[SURVIVOR].pid}")
            with contextlib.suppress(OSError, IndexError):  # it has just ended
                memory_mb = int((process / "status").read_text().partition("VmRSS:")[2].split()[0]) / 1024
                self.descriptors.append(sum(1 for _ in (process / "fd").iterdir()))
                self.memory_mb.append(memory_mb)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def run(plan: Plan, folder: Path, say: Callable[[str], None], cluster: LinkedCluster | None = None) -> Outcome:
    """Run it.

    Args:
        folder: for the workers' logs, and Kafka's data.
        say: told what happens, a line at a time.
        cluster: a relayed one that runs already and is left running; None for one of its own.
    """
    began = time.monotonic()
    quiet = Quiet()

    def tell(text: str) -> None:
        say(f"{time.monotonic() - began:7.1f} {text}")

    with Stage(f"f{plan.seed}", folder, cluster=cluster, weakness=plan.weakness, **plan.settings) as stage:
        tell("the cluster runs")
        witness = Witness(stage.servers, stage.settings, quiet)
        witness.start()
        workers = [stage.start_worker(slot) for slot in range(WORKERS)]
        for worker in workers:
            worker.started()
        for name, topic in dispatched(stage.names).items():
            stage.start_dispatcher(name, topic, PER_SECOND)
        injector = Injector(stage.servers, stage.names, plan.per_second)
        operator = Operator(stage.servers, stage.names, stage.settings, witness, plan.seed)
        nemesis = Nemesis(stage, quiet, plan.seed, plan.tracks, tell)
        samples = _Samples(stage)
        tell("messages, commands and faults begin")
        started = time.monotonic()
        try:
            injector.start()
            operator.start()
            nemesis.start()
            samples.start()
            while (passed := time.monotonic() - started) < plan.seconds:
                time.sleep(min(10.0, plan.seconds - passed))
                nemesis.check()
                tell(
                    f"put in {injector.sent}, moved {witness.restored}, commands {len(operator.ids)}, "
                    f"faults {nemesis.done.total()}, longest stall {witness.longest_stall_s:.1f} s, "
                    f"of one command {witness.longest_wait.seconds:.1f} s"
                )
            tell("faults end")
            nemesis.stop()
            operator.stop()
            injector.stop()
            samples.stop()
            operator.flush()
            open_ = witness.wait(operator.ids, _END_S)
            tell(f"commands that do not end: {open_[:5]}" if open_ else "all commands have ended")
            if not open_:
                witness.wait(operator.last_cancels(), _END_S)
            time.sleep(3)  # dispatchers write what they have just committed
            stage.stop_dispatchers()
        finally:
            stage.keep_logs()
        tell("reading all that is there")
        history = read_history(stage.servers, stage.names, stage.settings)
        history.heads = stage.heads()
        verdict = judge(history, injector.acknowledged, operator.ids)
        tell(f"judged: {len(verdict.violations)} violations")
        story: list[str] = []
        first = next((violation for violation in verdict.violations if violation.number is not None), None)
        if first is not None and first.number is not None:
            story = [f"{first.rule}: {first.text}", *story_of(stage.servers, stage.names, stage.settings, first.number)]
        witness.stop()
        return Outcome(
            plan=plan,
            verdict=verdict,
            faults=dict(sorted(nemesis.done.items())),
            longest_stall_s=witness.longest_stall_s,
            longest_wait=witness.longest_wait,
            stalls=dict(witness.stalls),
            memory_mb=samples.memory_mb,
            descriptors=samples.descriptors,
            story=story,
            seconds=time.monotonic() - started,
        )
