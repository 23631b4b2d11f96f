"""`make faults`: messages, cancels, transfers and faults for a while, then the verdict; `--help` tells the options."""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from tests.faults.run import Outcome, Plan, run
from tests.faults.trouble import TRACKS
from tests.support.patience import SLOWNESS

MOST_STALL_S = 30.0 * SLOWNESS
"""Each command goes on by itself within this time after a fault has ended: more without one is a failure."""


def main() -> int:
    """The command; 0 if every promise was kept, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="repeat the faults of another run")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=420.0, help="messages put in per second")
    parser.add_argument("--tracks", default=",".join(TRACKS), help="which faults (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="keep Kafka's data and the workers' logs here")
    parser.add_argument("--report", type=Path, help="write the figures here, as JSON")
    options = parser.parse_args()
    tracks = tuple(track for track in TRACKS if track in options.tracks.split(","))
    plan = Plan(options.seed, options.minutes * 60, options.rate, tracks)
    print(f"seed {plan.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="xferq-faults-") as temporary:
        outcome = run(plan, options.folder or Path(temporary), lambda text: print(text, flush=True))
    if options.report is not None:
        options.report.write_text(json.dumps(outcome.report(), indent=2) + "\n")
    show(outcome)
    stood_still_s = max(outcome.longest_stall_s, outcome.longest_wait.seconds)
    return 1 if outcome.verdict.violations or stood_still_s > MOST_STALL_S else 0


def show(outcome: Outcome) -> None:
    """Print the figures."""
    report = outcome.report()
    for title in ("totals", "faults"):
        print(f"\n{title}")
        for name, count in report[title].items():
            print(f"  {count:>12,}  {name}")
    print(f"\nlongest time without faults and without progress: {report['longest_stall_s']} s (at most {MOST_STALL_S})")
    waited = outcome.longest_wait
    print(f"of one command: {waited.seconds:.1f} s ({waited.id}, after: {waited.last})")
    print(f"memory of a worker, quarter by quarter: {report['worker_memory_mb']} MB")
    print(f"its descriptors: {report['worker_descriptors']}")
    for violation in outcome.verdict.violations[:20]:
        print(f"VIOLATION {violation.rule}: {violation.text[:1_000]}")
    for line in outcome.story:
        print(f"  {line[:600]}")
    print(f"\nseed {outcome.plan.seed}: {'BROKEN' if outcome.verdict.violations else 'every promise was kept'}")


if __name__ == "__main__":
    sys.exit(main())
