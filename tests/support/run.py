"""The whole test run, stage by stage: `python -m tests.support.run`, which `make test` calls.

Options that are not its own go to pytest, in every stage: `-k name`, `-x`, a file.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

from streams.broker import BrokerError, EmbeddedBroker
from tests.conftest import SHARED_KAFKA
from tests.support.examples import IN_A_HURRY, MOST
from tests.support.java import make_cache
from tests.support.outcome import RESULTS, ROOT, Outcome
from tests.support.patience import SLOWNESS
from tests.support.progress import REST
from tests.support.stages import FILES, NAMES, ROUNDS, WITHOUT_KAFKA, Stage

_FILES = RESULTS / "files.json"
_NO_TESTS = 5
"""pytest's exit status where nothing was selected: a stage may have nothing of what somebody has asked for."""
_INTERRUPTED = 2


@contextmanager
def _kafka(stage: Stage) -> Iterator[dict[str, str]]:
    """The environment that leads to the one node of a stage that shares it; its log is kept."""
    if not stage.shares_kafka:
        yield {}
        return
    data = RESULTS / "kafka"
    shutil.rmtree(data, ignore_errors=True)
    with EmbeddedBroker(data) as broker:
        yield {SHARED_KAFKA: f"{broker.bootstrap_servers}|{broker.data_dir}"}
    shutil.copy(broker.log_path, RESULTS / f"kafka-{stage.name}.log")
    shutil.rmtree(data, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Ended:
    """A stage's process: its exit status, and how long it took."""

    status: int
    seconds: float


class Run:
    """Runs rounds of stages, and prints where each is."""

    def __init__(
        self, options: Sequence[str], cache: Future[None], *, again: bool, within_min: float = math.inf
    ) -> None:
        self._options = options
        self._cache = cache
        self._again = again
        self._within_min = within_min
        self._began = time.monotonic()
        self._printing = threading.Lock()
        self._outcome = Outcome()

    def all_of(self, rounds: Sequence[Sequence[Sequence[Stage]]]) -> Outcome:
        """Run them all; those of a round side by side, each list of it one after the other."""
        for number, lanes in enumerate(rounds):
            later_min = sum(_minutes(those) for those in rounds[number + 1 :])
            done_min = sum(_minutes(those) for those in rounds[:number])
            taken_min = (time.monotonic() - self._began) / 60
            if is_late(taken_min, done_min, _minutes(lanes) + later_min, self._within_min) and not self._outcome.hurry:
                self._hurry(number + 1)
            if any(stage.name not in WITHOUT_KAFKA for stage in chain(*lanes)):
                self._cache.result()
            names = " beside ".join(", then ".join(f"{stage.name} ({stage.about})" for stage in lane) for lane in lanes)
            print(f"\n== round {number + 1} of {len(rounds)}: {names}", flush=True)
            with ThreadPoolExecutor(len(lanes)) as pool:
                ended = list(pool.map(self._lane, lanes, [later_min] * len(lanes)))
            for lane, ends in zip(lanes, ended, strict=True):
                for stage, end in zip(lane, ends, strict=False):  # fewer, where somebody has interrupted
                    self._take(stage, end)
            if any(end.status == _INTERRUPTED for end in chain(*ended)):
                break
        return self._outcome

    def _hurry(self, number: int) -> None:
        """From this round on only a part of many cases that are alike, which is said at the end."""
        os.environ[MOST] = str(IN_A_HURRY)
        self._outcome.hurry = (
            f"from round {number} on, of many cases that are alike only every fourth was tried, and {IN_A_HURRY} "
            f"examples of each property: this machine would not get through in {self._within_min:.0f} minutes otherwise"
        )
        print(f"\n== {self._outcome.hurry}", flush=True)

    def _lane(self, stages: Sequence[Stage], later_min: float) -> list[_Ended]:
        """One after the other, as long as nobody interrupts."""
        ended: list[_Ended] = []
        for number, stage in enumerate(stages):
            rest_min = later_min + sum(later.minutes for later in stages[number + 1 :])
            ended.append(self._one(stage, rest_min / stage.minutes))
            if ended[-1].status == _INTERRUPTED:
                break
        return ended

    def _take(self, stage: Stage, end: _Ended) -> None:
        """What came of a stage; what failed in it runs once more by itself, where that is wanted."""
        self._outcome.seconds[stage.name] = end.seconds
        report = RESULTS / f"{stage.name}.xml"
        if report.exists():
            self._outcome.add(stage.name, report)
        if self._again and end.status == 1:
            print(f"\n== {stage.name}: what failed, once more and by itself", flush=True)
            again = self._one(stage, 0.0, again=True)
            self._outcome.forgive(stage.name, RESULTS / f"{stage.name}-again.xml")
            self._outcome.seconds[stage.name] += again.seconds
        if end.status not in (0, 1, _NO_TESTS):
            self._outcome.broken.append(stage.name)

    def _one(self, stage: Stage, rest: float, *, again: bool = False) -> _Ended:
        """One stage, or `again` what failed in it, one after the other."""
        began = time.monotonic()
        try:
            with _kafka(stage) as variables:
                status = self._pytest(stage, variables | {REST: str(rest), FILES: str(_FILES)}, again=again)
        except BrokerError as error:
            print(f"Kafka could not be started: {error}", file=sys.stderr)
            status = -1
        return _Ended(status, time.monotonic() - began)

    def _pytest(self, stage: Stage, variables: Mapping[str, str], *, again: bool) -> int:
        name = f"{stage.name}-again" if again else stage.name
        at_once = 1 if again else stage.at_once
        command = [
            *(sys.executable, "-m", "pytest", "--stage", stage.name, "-p", "tests.support.progress", "-q"),
            *("--no-header", "-o", "junit_family=xunit1", "--junitxml", str(RESULTS / f"{name}.xml")),
            *("-n", str(at_once), "--dist", "worksteal") * (at_once > 1),
            *("-o", f"cache_dir=.pytest_cache/{stage.name}"),
            *("--last-failed", "--last-failed-no-failures=none") * again,
            *(self._options or _files_of(stage)),
        ]
        with (RESULTS / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=os.environ | variables, stdout=subprocess.PIPE)
            try:
                for line in process.stdout or ():
                    log.write(line)
                    with self._printing:
                        sys.stdout.buffer.write(line)
                        sys.stdout.buffer.flush()
                return process.wait()
            except BaseException:
                process.terminate()
                process.wait()
                raise


def _minutes(lanes: Sequence[Sequence[Stage]]) -> float:
    """How long a round takes, about."""
    return max(sum(stage.minutes for stage in lane) for lane in lanes)


def is_late(taken_min: float, done_min: float, left_min: float, within_min: float) -> bool:
    """Whether the rest will take too long, if it takes as many times its usual minutes as what was done so far."""
    slowness = taken_min / done_min if done_min else 1.0
    return taken_min + left_min * slowness > within_min


def _files_of(stage: Stage) -> Collection[str]:
    """Where its tests are, as an earlier stage has found that looked at all of them; none: anywhere."""
    if stage.paths or not _FILES.exists():
        return stage.paths
    found: list[str] = json.loads(_FILES.read_text()).get(stage.name, [])
    return found


def run(
    rounds: Sequence[Sequence[Sequence[Stage]]],
    options: Sequence[str],
    *,
    again: bool = False,
    within_min: float = math.inf,
) -> Outcome:
    """Run these stages, and print where it is; with `again`, what failed in a stage once more, by itself.

    A part of what is alike is left out where all of it would take longer than `within_min` minutes.
    """
    shutil.rmtree(RESULTS, ignore_errors=True)
    RESULTS.mkdir()
    print(f"this machine takes {SLOWNESS:.1f} times as long as is usual; tests wait accordingly")
    began = time.monotonic()
    with ThreadPoolExecutor(1) as beside:
        cache = beside.submit(make_cache)  # beside what needs no Kafka
        outcome = Run(options, cache, again=again, within_min=within_min).all_of(rounds)
    wanted = [stage for lanes in rounds for stage in chain(*lanes)]
    summary = "\n".join(outcome.text(wanted, time.monotonic() - began))
    (RESULTS / "summary.txt").write_text(summary + "\n")
    print("\n\n== the whole run", summary, sep="\n", flush=True)
    return outcome


def main() -> int:
    """The exit status: 0 where all is well."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="Everything else is for pytest.")
    parser.add_argument("--only", action="append", choices=NAMES, help="this stage; may be given again")
    parser.add_argument("--again", action="store_true", help="run what fails once more, by itself; both are said")
    parser.add_argument(
        "--within", type=float, default=math.inf, metavar="MINUTES",
        help="leave a part of many cases that are alike out where all of them would take longer; it is said",
    )  # fmt: skip
    known, options = parser.parse_known_args()
    names = known.only or NAMES
    rounds = [[[stage for stage in lane if stage.name in names] for lane in lanes] for lanes in ROUNDS]
    wanted = [lanes for lanes in ([lane for lane in lanes if lane] for lanes in rounds) if lanes]
    try:
        return 0 if run(wanted, options, again=known.again, within_min=known.within).is_good else 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
