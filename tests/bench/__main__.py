"""`make bench`: the drain against others who move the same messages, other shapes, the claim, many new queues.

Everything in one run on one broker, contenders in turn, medians and spreads. The results go to the terminal
and, as JSON, to bench-results/; `python -m tests.bench.report` makes a table and a plot of them.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from streams.broker import EmbeddedBroker
from streams.broker.jars import KAFKA_VERSION
from tests.bench.claims import at_once, claims, new_queues, small
from tests.bench.contenders import contenders
from tests.bench.drains import OURS, Broker, Shape, compare
from tests.bench.posts import posts
from tests.bench.shapes import measure_shapes
from tests.bench.tables import claim_table, drain_table, posts_table, queues_table, shapes_table, transfers_table
from tests.bench.transfers import transfers

PARTS = ("drain", "claim", "posts", "queues", "transfers", "shapes")
RESULTS = Path("bench-results")
_WARM_UP = 5_000
_QUICK = {"messages": 5_000, "rounds": 1, "deep": 20_000}
_FULL = {"messages": 200_000, "rounds": 3, "deep": 1_000_000}
_console = Console(width=None if sys.stdout.isatty() else 120)


async def run(options: argparse.Namespace) -> None:
    """Measure, print, keep."""
    started = time.time()
    shape = Shape(messages=options.messages, size=options.size, transaction=options.transaction)
    warm_up = 1_000 if options.quick else _WARM_UP
    results: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "kafka": KAFKA_VERSION,
        "at": time.strftime("%Y-%m-%d", time.gmtime(started)),
        "quick": options.quick,
    }
    _console.print(f"on {results['machine']}, the broker on the same cores")
    with EmbeddedBroker(heap_mb=1024) as broker:
        bootstrap = broker.bootstrap_servers
        measured = Broker(bootstrap, broker.java_pid)
        if "drain" in options.only:
            _console.print(f"drain: {shape}")
            chosen = contenders(options.contenders or ())
            results["drain"] = await compare(
                measured, shape, chosen, rounds=options.rounds, warm_up=warm_up, say=_console.print
            )
            _console.print(drain_table(results["drain"]))
        if "claim" in options.only:
            _console.print("claims and small cancels")
            many = 20 * options.rounds
            results["claim"] = [
                await claims(bootstrap, 1_000, many),
                await claims(bootstrap, options.deep, max(1, options.rounds - 1)),
                await claims(bootstrap, 1_000, 5 * options.rounds, partitions=64),
                await at_once(bootstrap),
                await small(bootstrap, 0, many),
                await small(bootstrap, 1, many),
            ]
            _console.print(claim_table(results["claim"]))
        if "posts" in options.only or "claim" in options.only:
            seconds = 2 if options.quick else 10
            results["posts"] = [await posts(bootstrap, seconds, with_key=with_key) for with_key in (False, True)]
            _console.print(posts_table(results["posts"]))
        if "transfers" in options.only:
            counts = (100, 200) if options.quick else (1_000, 2_500, 5_000)
            _console.print("transfers of very many queues, and back")
            results["transfers"] = [await transfers(bootstrap, count) for count in counts]
            _console.print(transfers_table(results["transfers"]))
        if "queues" in options.only:
            count, messages = (100, 2_000) if options.quick else (2_000, 20_000)
            _console.print(f"drain into {count:,} new queues")
            results["new_queues"] = await new_queues(bootstrap, count, messages)
            _console.print(queues_table(results["new_queues"]))
        if "shapes" in options.only:
            results["shapes"] = await measure_shapes(
                measured,
                shape,
                contenders(options.contenders or [OURS]),
                rounds=options.rounds,
                warm_up=warm_up,
                quick=options.quick,
                only=options.shapes or (),
                say=_console.print,
            )
            _console.print(shapes_table(results["shapes"]))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / time.strftime("%Y%m%d-%H%M%S.json", time.gmtime(started))
    path.write_text(json.dumps(results, indent=1))
    _console.print(f"results in {path}; {time.time() - started:.0f} s")


def main() -> None:
    """Parse the options and run."""
    names = [contender.name for contender in contenders()]
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=["drain", "claim", "queues"])
    parser.add_argument(
        "--contenders",
        type=lambda text: text.split(","),
        help=f"with commas between them, of {', '.join(names)}; all of them in the drain, xferq in the shapes",
    )
    parser.add_argument("--shapes", nargs="+", help="words of the names of the shapes that are measured")
    parser.add_argument("--messages", type=int, help="in the drain and in most shapes (200,000)")
    parser.add_argument("--size", type=int, default=2048, help="of a message's body, in bytes")
    parser.add_argument("--transaction", type=int, default=10_000, help="most messages in a transaction, for everybody")
    parser.add_argument("--rounds", type=int, help="of each (3)")
    parser.add_argument("--deep", type=int, help="messages in the deep queue of the claim (1,000,000)")
    parser.add_argument("--quick", action="store_true", help="small numbers: whether it runs, not how fast")
    options = parser.parse_args()
    for name, value in (_QUICK if options.quick else _FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    try:
        contenders(options.contenders or ())
    except ValueError as error:
        parser.error(str(error))
    asyncio.run(run(options))


if __name__ == "__main__":
    main()
