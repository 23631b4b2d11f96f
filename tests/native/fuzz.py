"""Hostile envelopes and fetches through the compiled drain and Python's, for as long as wanted: `make fuzz`."""

import argparse
import logging
import random
import time
from collections.abc import Callable

from tests.native.compared import CLAIMS, OPTIONS, in_python, require_same_moves, require_same_reading
from tests.native.hostile import Hostile


def moves(chance: random.Random) -> tuple[int, int]:
    """One comparison of moves: how many records, and how many of them were moved."""
    hostile = Hostile(chance)
    records = [hostile.record(offset) for offset in range(chance.randrange(1, 40))]
    return len(records), require_same_moves(records, chance.choice(CLAIMS), chance.choice(OPTIONS))


def reading(chance: random.Random) -> tuple[int, int]:
    """One comparison of readings: one fetch, and how many records were read."""
    data, aborted = Hostile(chance).fetch()
    return 1, require_same_reading(data, aborted, chance.randrange(4))


def run(what: Callable[[random.Random], tuple[int, int]], seed: int, seconds: float) -> tuple[int, int]:
    """Compare until the time is over; a difference names the seed of its case."""
    total = good = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            count, passed = what(random.Random(seed))
        except BaseException:
            print(f"{what.__name__} differ with seed {seed}")
            raise
        total, good, seed = total + count, good + passed, seed + 1
    return total, good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable()
    total, moved = run(moves, options.seed, options.seconds * 2 / 3)
    left = in_python()
    print(f"{total} envelopes: {moved} moved, {sum(left.values()):.0f} left to Python ({left}): all alike")
    total, read = run(reading, options.seed, options.seconds / 3)
    print(f"{total} fetches with {read} records: all read alike")


if __name__ == "__main__":
    main()
